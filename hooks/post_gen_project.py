"""Checks this machine for the new project and says the next commands."""

import subprocess
import sys
import tempfile
from pathlib import Path
from shlex import quote

sys.stdout.reconfigure(errors="replace")
here = Path.cwd()
# `cruft diff` and `cruft update` generate too, but nobody goes on with what they make.
cruft = "{{ '_commit' in cookiecutter }}" == "True"
if cruft and here.is_relative_to(Path(tempfile.gettempdir()).resolve()):
    sys.exit()

check = [sys.executable, "-B", "check.py", "--offline"]  # leaves no bytecode
done = subprocess.run(check, capture_output=True, text=True, errors="replace")
# A crash of the check must not cost anybody the project.
said = done.stdout or "Next:\n  python check.py\n"
print(said.replace("Next:\n", f"Next:\n  cd {quote(str(here))}\n"), end="")
