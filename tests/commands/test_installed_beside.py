"""A generated project where the library is installed, too; and its switch to it."""

import re

import pytest
from runs import PACKAGE, ROOT, path_of, recorded, run

OURS = ("runs", "replay", "share", "receive")


@pytest.fixture
def kedro(fork, bin_, site, project_with_store):
    """Return a function that runs ``kedro`` where the library is installed."""

    def command(*words: str, ok: bool = True):
        env = {"PATH": path_of(bin_), "PYTHONPATH": str(site), "COLUMNS": "300"}
        return fork.run(bin_ / "kedro", *words, cwd=project_with_store, ok=ok, **env)

    return command


def sections(help_text: str) -> dict[str, list[str]]:
    """Return the commands of each section of the help."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in help_text.splitlines():
        if heading := re.match(r"\w.* from (.+)", line):
            name = heading[1]
        elif name and line.startswith("  ") and line.split():
            found.setdefault(name, []).append(line.split()[0])
    return found


def test_a_copy_is_used_beside_the_installed_library(kedro, project_with_store):
    listed = sections(kedro("--help").stdout)
    (owner,) = [name for name, commands in listed.items() if "runs" in commands]
    assert owner == PACKAGE and set(OURS) <= set(listed[owner])
    kedro("run")
    (one,) = recorded(project_with_store)  # not one by each
    assert one.status == "FINISHED"
    # Its own copy answers: without it, nothing does.
    runs = project_with_store / "src" / PACKAGE / "tracking" / "commands" / "runs.py"
    runs.write_text(
        runs.read_text().replace("No run is like this.", "None in this copy.")
    )
    said = kedro("runs", "--filter=tags.no = 'no'").stdout
    assert "None in this copy." in said


def script_of_the_page() -> str:
    """Return the commands by which the page switches a project."""
    page = (ROOT / "docs" / "add-to-your-project.md").read_text("utf-8")
    (script,) = re.findall(r"```bash\n(rm -r .+?)```", page, re.DOTALL)
    return script


def test_a_project_can_switch_to_the_installed_library(
    kedro, project_in_git, fork, bin_, site
):
    project = project_in_git
    run("bash", "-euc", script_of_the_page(), cwd=project)
    assert not (project / "src" / PACKAGE / "tracking").exists()
    kedro("run")
    kedro("run", "--pipelines=score")
    trained, scored = recorded(project)
    assert trained.status == scored.status == "FINISHED"
    assert trained.experiment == PACKAGE and trained.metrics["accuracy"] >= 0.9
    assert "registry.version" in trained.tags
    listed = sections(kedro("--help").stdout)
    (owner,) = [name for name, commands in listed.items() if "runs" in commands]
    assert owner == "mlflow-iris" and set(listed[owner]) == set(OURS)
    kedro("runs", "diff", trained.id, scored.id, ok=False)
    env = {"PATH": path_of(bin_), "PYTHONPATH": str(site)}
    fork.run(bin_ / "python", "-m", "pytest", "-q", cwd=project, **env)
    checked = fork.run(bin_ / "python", "check.py", cwd=project, **env)
    assert f"ok   tracking  {project}/mlflow.db" in checked.stdout
    run(bin_ / "ruff", "check", ".", cwd=project)
