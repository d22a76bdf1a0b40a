"""What the README of a project says may be deleted, and how."""

import re
import shutil
from pathlib import Path

from runs import PACKAGE, ROOT

README = ROOT / "{{ cookiecutter.repo_name }}" / "README.md"


def rows() -> list[tuple[str, ...]]:
    """Return the paths of each row of the table."""
    text = README.read_text("utf-8").replace(
        "{{ cookiecutter.python_package }}", PACKAGE
    )
    (table,) = re.findall(r"^## What you may delete\n(.*?)^## ", text, re.M | re.S)
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    return [tuple(re.findall("`(.*?)`", line.split("|")[1])) for line in lines]


ROWS = rows()
WORKFLOW = ".github/workflows/ci.yml"
JOB = r"\n(?:  #.*\n)+  {}:\n(?:    .*\n|\n(?=    ))*"
EDITS = {  # as the last column has them
    f"src/{PACKAGE}/tracking/commands": {
        f"src/{PACKAGE}/cli.py": (
            r"\nfrom \.tracking\.commands import COMMANDS\n",
            r"\n*for .* in COMMANDS:\n.*",
        ),
        WORKFLOW: (JOB.format("compare"), JOB.format("champion")),
    },
    "compare_branches.py": {WORKFLOW: (JOB.format("compare"),)},
}


def delete(project: Path, paths: tuple[str, ...]) -> None:
    """Delete files and folders, and make the edits that go with them."""
    for name in paths:
        path = project / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in paths:
        for file, patterns in EDITS.get(name, {}).items():
            for pattern in patterns:
                text, edits = re.subn(pattern, "", (project / file).read_text())
                assert edits == 1 or (edits == 0 and len(paths) > 1)  # made already
                (project / file).write_text(text)
