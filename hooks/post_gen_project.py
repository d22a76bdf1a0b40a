"""Checks this machine for the new project and says the next commands."""

import subprocess
import sys
from pathlib import Path
from shlex import quote

INSTALL = "pip install -r requirements.txt"

sys.stdout.reconfigure(errors="replace")
check = subprocess.run(
    [sys.executable, "check.py", "--offline"],
    capture_output=True,
    text=True,
    errors="replace",
)
*table, run = check.stdout.splitlines() or [""]
# A crash of the check has an error output; it must not cost anybody the project.
if check.returncode and not check.stderr:
    sys.exit("\n".join(line for line in [*table, run] if line.startswith("FAIL")))

print(*table, "Next:", sep="\n")
print(f"  cd {quote(str(Path.cwd()))}")
print(f"  {INSTALL}\n  kedro run")
if run:
    print(f"  {run.replace(INSTALL + ' && ', '')}")
print("  python check.py")
