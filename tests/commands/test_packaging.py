"""`pip install` of this repository gives `kedro new --starter=mlflow-iris`."""

import re
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

from packaged import TEMPLATE, tracked
from packaging.requirements import Requirement
from runs import NAME, PACKAGE, ROOT, generate, run

STARTER = (
    "cookiecutter.json",
    "prompts.yml",
    "local_extensions.py",
    "docs",
    "hooks",
    TEMPLATE,
)
LIBRARY = f"{TEMPLATE}/src/{{{{ cookiecutter.python_package }}}}/tracking"


def contents(folder: Path) -> dict[str, bytes]:
    """Read every file under a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_wheel_holds_the_starter_its_library_and_nothing_else(dist):
    (path,) = dist.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        files = {n: wheel.read(n) for n in wheel.namelist() if ".dist-info/" not in n}
    expected = {f"mlflow_iris/{name}": name for name in tracked(*STARTER)}
    for folder, inside in (
        ("plugin", "mlflow_iris"),
        (LIBRARY, "mlflow_iris/tracking"),
    ):
        for name in tracked(folder):
            expected[name.replace(folder, inside)] = name
    assert "mlflow_iris/tracking/commands/runs.py" in expected
    assert files == {name: (ROOT / of).read_bytes() for name, of in expected.items()}
    for name in ("conf/local/.gitkeep", ".gitignore", ".github/workflows/ci.yml"):
        assert f"mlflow_iris/{TEMPLATE}/{name}" in files


def test_the_library_needs_no_rendering(generated):
    """The wheel carries the template's files; a project has them rendered."""
    ours = contents(ROOT / LIBRARY)
    theirs = contents(generated / "src" / PACKAGE / "tracking")
    assert {n: b for n, b in ours.items() if n.endswith(".py")} == theirs


def test_wheel_requires_kedro_alone_and_carries_the_licence(dist):
    (path,) = dist.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(wheel.read(name))
        licence = wheel.read(name.replace("METADATA", "licenses/LICENSE"))
    kedro, *optional = metadata.get_all("Requires-Dist")
    assert kedro == "kedro<2,>=1.7"
    # What the library needs is what a generated project asks for.
    text = (ROOT / TEMPLATE / "pyproject.toml").read_text()
    for line in optional:
        wanted, _, extra = line.partition("; ")
        assert extra == "extra == 'tracking'"
        (theirs,) = re.findall(rf'"({Requirement(wanted).name}[>=<].+)"', text)
        assert Requirement(theirs) == Requirement(wanted)
    assert len(optional) == 2
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
