"""A newer starter comes into a project by cruft."""

import json
import os
import platform
import shutil
from pathlib import Path

import pytest
from packaged import TEMPLATE, tracked
from runs import AUTHOR, NAME, PACKAGE, ROOT, build_environment, generate, path_of, run


def other_python() -> Path:
    """Return an interpreter of another version than this one."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = [
        *root.glob("versions/3.1?.*/bin/python"),
        *Path("/usr/bin").glob("python3"),
    ]
    for python in found:
        version = run(python, "-c", "import sys; print(sys.version)", cwd="/").stdout
        if not version.startswith(platform.python_version()):
            return python
    return pytest.skip("no second Python: apt-get install python3, or use pyenv")


def commit(folder: Path) -> None:
    """Put everything in a folder into Git."""
    for words in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "-mA")):
        run("git", *AUTHOR, *words, cwd=folder)


def copy_of_the_starter(folder: Path) -> Path:
    """Copy the repository, with one commit in it, tagged with its version."""
    template = folder / "template"
    for name in tracked():
        (template / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, template / name)
    commit(template)
    run("git", "tag", "v0.1.0", cwd=template)
    return template


def cruft_variables(folder: Path) -> dict[str, str]:
    """Return an environment in which cruft leaves nothing outside of a folder."""
    (folder / "temporary").mkdir()
    configuration = folder / "cookiecutter.yml"
    configuration.write_text(f"replay_dir: {folder / 'replay'}", "utf-8")
    temporary = {"TMPDIR": str(folder / "temporary")}
    return temporary | {"COOKIECUTTER_CONFIG": str(configuration)}


def test_cruft_on_another_python(tmp_path):
    """It finds no change where there is none, and prints nothing of ours."""
    template, projects = copy_of_the_starter(tmp_path), tmp_path / "projects"
    projects.mkdir()
    env = cruft_variables(tmp_path)
    here = build_environment(tmp_path / "here", "cruft")
    there = build_environment(tmp_path / "there", "cruft", python=str(other_python()))
    created = run(here / "cruft", "create", template, "-y", cwd=projects, **env)
    (project,) = projects.iterdir()
    assert f"Next:\n  cd {project}\n" in created.stdout
    commit(project)
    assert run(there / "cruft", "diff", cwd=project, **env).stdout == ""
    checked = run(there / "cruft", "check", cwd=project, **env).stdout
    with (template / TEMPLATE / "README.md").open("a", encoding="utf-8") as readme:
        readme.write("One line more.\n")
    commit(template)
    updated = run(there / "cruft", "update", "-y", cwd=project, **env).stdout
    changed = run("git", "diff", "HEAD", "--name-only", cwd=project).stdout.split()
    assert changed == [".cruft.json", "README.md"]
    assert "Next:" not in checked + updated


def test_a_newer_starter_comes_into_an_edited_project(bin_, tmp_path):
    template, env = copy_of_the_starter(tmp_path), cruft_variables(tmp_path)
    project = generate(tmp_path, f"--starter={template}")
    path = {"PATH": path_of(bin_)}
    run(bin_ / "kedro", "run", cwd=project, **path)
    nodes = project / "src" / PACKAGE / "pipelines" / "data_science" / "nodes.py"
    mine = nodes.read_text().replace("standardised measures.", "my own measures.")
    nodes.write_text(mine)
    commit(project)
    hooks = next((template / TEMPLATE).rglob("hooks.py"))
    hooks.write_text(f"{hooks.read_text()}\n# Newer.\n")
    commit(template)

    cruft = build_environment(tmp_path / "cruft", "cruft") / "cruft"
    name = f'{{"project_name": "{NAME}"}}'
    link = ("link", template, "-y", "--checkout=v0.1.0", f"--extra-context={name}")
    run(cruft, *link, cwd=project, **env)
    commit(project)
    run(cruft, "update", "-y", cwd=project, **env)
    changed = run("git", "diff", "HEAD", "--name-only", cwd=project).stdout.split()
    updated = project / "src" / PACKAGE / "tracking" / "hooks.py"
    assert changed == [".cruft.json", str(updated.relative_to(project))]
    assert updated.read_text().endswith("# Newer.\n") and nodes.read_text() == mine
    run(bin_ / "kedro", "run", cwd=project, **path)
    old = f"--params=score_options.model=models:/{PACKAGE}/1"
    run(bin_ / "kedro", "run", "--pipelines=score", old, cwd=project, **path)


# As docs/upgrade.md has it; Kedro brings what copier needs besides.
COPIER = ("copier", "copier-template-extensions", "kedro>=1.7,<2")


def test_copier_copies_what_kedro_makes_and_merges_what_is_newer(tmp_path):
    template, name = copy_of_the_starter(tmp_path), f"--data=project_name={NAME}"
    copier = build_environment(tmp_path / "copier", *COPIER) / "copier"
    project = tmp_path / "project"
    options = ("--trust", "--defaults", "--quiet")
    run(copier, "copy", *options, name, template, project, cwd=tmp_path)
    answers = json.loads((project / ".copier-answers.yml").read_text())
    (project / ".copier-answers.yml").unlink()
    (tmp_path / "kedro").mkdir()
    made = generate(tmp_path / "kedro", f"--starter={template}")
    left_out = ("--exclude=.telemetry", "--brief", "--recursive")
    assert run("diff", *left_out, made, project, cwd=tmp_path).stdout == ""
    # As docs/upgrade.md says of a project that Kedro has made.
    link = {"_commit": "v0.1.0", "_src_path": str(template), "project_name": NAME}
    assert answers == link
    project = made
    (project / ".copier-answers.yml").write_text(f"{json.dumps(link)}\n")

    nodes = Path("src", PACKAGE, "pipelines", "data_science", "nodes.py")
    text = (project / nodes).read_text()
    mine = text.replace("standardised measures.", "my own measures.")
    assert mine != text
    (project / nodes).write_text(mine)
    commit(project)
    theirs = next(template.glob(f"{TEMPLATE}/src/*/pipelines/data_science/nodes.py"))
    theirs.write_text(f"{theirs.read_text()}\n# Newer.\n")
    hooks = next((template / TEMPLATE).rglob("hooks.py"))
    hooks.write_text(f"{hooks.read_text()}\n# Newer.\n")
    commit(template)
    run("git", "tag", "v0.1.1", cwd=template)
    run(copier, "update", *options, cwd=project)
    changed = run("git", "diff", "HEAD", "--name-only", cwd=project).stdout.split()
    tracking = Path("src", PACKAGE, "tracking", "hooks.py")
    assert changed == [".copier-answers.yml", str(nodes), str(tracking)]
    assert (project / nodes).read_text() == f"{mine}\n# Newer.\n"
    assert "v0.1.1" in (project / ".copier-answers.yml").read_text()
    assert list(project.rglob("*.rej")) == []


def test_copier_refuses_a_name_in_one_line(tmp_path):
    template = copy_of_the_starter(tmp_path)
    copier = build_environment(tmp_path / "copier", *COPIER) / "copier"
    options = ("--trust", "--defaults", "--quiet", "--data=project_name=MLflow")
    done = run(copier, "copy", *options, template, "new", cwd=tmp_path, ok=False)
    assert done.returncode == 1 and not (tmp_path / "new").exists()
    assert "Cannot use 'mlflow' as python_package" in done.stderr
    assert "Traceback" not in done.stderr
