"""Write docs/recipes/*.diff again, with the lines around them as they are now.

A change of the template may move or change lines beside an edit. Where one line before
and after still shows the place, this writes the diff with three. It names the diffs
that have to be corrected by hand. Each diff also gets its file in the template.
"""

import re
import sys
import tempfile
from pathlib import Path

from names import render_project
from runs import REPO, ROOT, git, run

RECIPES = ROOT / "docs" / "recipes"
STUBS = ROOT / "{{ cookiecutter.repo_name }}" / "docs" / "recipes"
HEADER = re.compile(r"^(diff --git|index|new file mode) .*\n", re.M)


def refreshed(diff: Path, project: Path) -> str | None:
    """Return a diff for the project's files; None if it does not fit them."""
    for context in ("-C3", "-C1"):
        applied = run("git", "apply", "--index", context, diff, cwd=project, ok=False)
        if not applied.returncode:
            break
    else:
        print(applied.stderr, end="", file=sys.stderr)
        return None
    text = run("git", "diff", "--cached", "--no-color", cwd=project).stdout
    git(project, "reset", "--quiet", "--hard")
    return HEADER.sub("", text)


def main() -> int:
    failed = 0
    STUBS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        project = render_project({"project_name": "Iris Flowers"}, Path(folder))
        assert project.name == REPO
        git(project, "init", "--quiet")
        git(project, "add", "--all")
        git(project, "commit", "--quiet", "--message=all")
        for diff in sorted(RECIPES.glob("*.diff")):
            if text := refreshed(diff, project):
                diff.write_text(text, "utf-8")
                stub = f'{{{{ page("recipes/{diff.name}") }}}}\n'
                (STUBS / diff.name).write_text(stub, "utf-8")
            else:
                print(f"{diff.name} does not fit the template", file=sys.stderr)
                failed += 1
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
