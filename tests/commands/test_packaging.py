"""`pip install` of this repository gives `kedro new --starter=mlflow-iris`."""

import os
import platform
import shutil
import subprocess
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from filelock import FileLock
from runs import AUTHOR, NAME, PACKAGE, ROOT, build_environment, generate, path_of, run

TEMPLATE = "{{ cookiecutter.repo_name }}"
STARTER = ("cookiecutter.json", "prompts.yml", "local_extensions.py", "hooks", TEMPLATE)


def tracked(*paths: str) -> set[str]:
    """Files of the repository that git has, or would take with `git add`."""
    command = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run([*command, "--", *paths], cwd=ROOT, capture_output=True)
    if listed.returncode:
        pytest.skip("not a git repository: no list of its files")
    names = listed.stdout.decode().split("\0")
    return {name for name in names if (ROOT / name).is_file()}


def contents(folder: Path) -> dict[str, bytes]:
    """Read every file under a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="session")
def dist(shared) -> Path:
    """Return the folder of the sdist and of the wheel that is built from it."""
    with FileLock(shared / "dist.lock"):
        folder = shared / "dist"
        if not folder.exists():
            run("uv", "build", "--quiet", f"--out-dir={folder}", ROOT, cwd=shared)
        return folder


@pytest.fixture(scope="session")
def installed(dist, shared) -> Path:
    """Return the ``bin`` of an environment that holds the wheel, compiled as by pip."""
    with FileLock(shared / "installed.lock"):
        folder = shared / "installed"
        if folder.exists():
            return folder / ("Scripts" if os.name == "nt" else "bin")
        (wheel,) = dist.glob("*.whl")
        return build_environment(folder, str(wheel))


def test_wheel_holds_the_starter_and_nothing_else(dist):
    (path,) = dist.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        files = {n: wheel.read(n) for n in wheel.namelist() if ".dist-info/" not in n}
    expected = {f"mlflow_iris/{name}": name for name in tracked(*STARTER)}
    expected["mlflow_iris/__init__.py"] = "mlflow_iris.py"
    assert files == {name: (ROOT / of).read_bytes() for name, of in expected.items()}
    for name in ("conf/local/.gitkeep", ".gitignore", ".github/workflows/ci.yml"):
        assert f"mlflow_iris/{TEMPLATE}/{name}" in files


def test_wheel_requires_kedro_alone_and_carries_the_licence(dist):
    (path,) = dist.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(wheel.read(name))
        licence = wheel.read(name.replace("METADATA", "licenses/LICENSE"))
    assert metadata.get_all("Requires-Dist") == ["kedro<2,>=1.7"]
    assert metadata["Requires-Python"] == ">=3.10"
    assert licence == (ROOT / "LICENSE").read_bytes()


def test_sdist_holds_the_repository(dist):
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert names - {"PKG-INFO"} == tracked()


def test_kedro_lists_the_alias(installed, tmp_path):
    listed = run(installed / "kedro", "starter", "list", cwd=tmp_path)
    assert "mlflow-iris" in listed.stdout


def test_alias_generates_what_the_repository_generates(installed, tmp_path):
    command = ("new", "--starter=mlflow-iris", f"--name={NAME}", "--telemetry=no")
    made = {}
    for origin in ("repository", "alias"):
        folder = tmp_path / origin / "projects"
        folder.mkdir(parents=True)
        if origin == "repository":
            project = generate(folder)
        else:  # nowhere to fetch anything from
            offline = {"https_proxy": "http://127.0.0.1:9", "GIT_ALLOW_PROTOCOL": ""}
            run(installed / "kedro", *command, cwd=folder, **offline)
            (project,) = folder.iterdir()
        made[origin] = contents(project)
    assert made["alias"] == made["repository"]


def test_alias_refuses_a_name_in_one_line(installed, tmp_path):
    command = ("new", "--starter=mlflow-iris", "--name=MLflow", "--telemetry=no")
    done = run(installed / "kedro", *command, cwd=tmp_path, ok=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("Cannot use 'mlflow' as python_package")
    assert list(tmp_path.iterdir()) == []


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
