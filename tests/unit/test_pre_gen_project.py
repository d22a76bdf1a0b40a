"""Names that cannot work are refused before anything is written.

The check is called in this process; some answers of each kind go through cookiecutter,
with a template of one file.
"""

import ast
import functools
import importlib
import importlib.util
import json
import keyword
import shlex
import shutil
import sys
from importlib import metadata
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import ModuleType

import pytest
import yaml
from cookiecutter.environment import StrictEnvironment
from cookiecutter.exceptions import (
    FailedHookException,
    OutputDirExistsException,
    UndefinedVariableInTemplate,
)
from cookiecutter.main import cookiecutter
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateSyntaxError
from names import (
    ACCEPTED,
    EXAMPLES,
    GOOD,
    HOOK,
    LIBRARY,
    REFUSED,
    SHAPE,
    all_answers,
    files_and_folders,
    helpful,
    make_folder_with_work,
    make_small_template,
)


def load(path: Path) -> ModuleType:
    """Import a file by its path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hook = load(HOOK)


def render_hook(**answers: object) -> str:
    """Render the hook as cookiecutter does."""
    return (
        StrictEnvironment()
        .from_string(HOOK.read_text(encoding="utf-8"))
        .render(cookiecutter=EXAMPLES | answers)
    )


def rendered_hook(folder: Path) -> ModuleType:
    """Import the hook from a folder, as it is rendered when all names are good."""
    script = folder / "rendered_hook.py"
    script.write_text(render_hook(), encoding="utf-8")
    return load(script)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the starter's questions and hook, with a project of one file."""
    return make_small_template(tmp_path_factory.mktemp("starter"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, which already holds the folder ``kept``."""
    folder = make_folder_with_work(tmp_path / "projects")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch):
    """Return a function that gives answers to the hook and returns its refusal."""

    def main(answers: dict[str, object]) -> str | None:
        monkeypatch.setattr(hook, "CONTEXT", json.dumps(all_answers(answers)))
        return hook.main()

    return main


def generate(template: Path, answers: dict[str, object], **options: object) -> Path:
    """Generate in the current folder with cookiecutter."""
    project = cookiecutter(
        str(template),
        no_input=True,
        extra_context=answers,
        config_file=str(template / "config.yaml"),
        **options,
    )
    return Path(project)


@pytest.mark.parametrize("answers", ACCEPTED, ids=ascii)
def test_good_names_are_accepted(answer, answers: dict[str, str]) -> None:
    assert answer(answers) is None


@pytest.mark.parametrize("answers, words", REFUSED, ids=ascii)
def test_refused_in_one_line(answer, answers: dict[str, object], words: str) -> None:
    line = answer(answers)
    assert words in line
    assert helpful(line)


@pytest.mark.parametrize(
    "answers",
    [
        {"project_name": "Żółte Kwiaty"},
        {"project_name": "花の分類", "repo_name": "hana.v2", "python_package": "Hana"},
    ],
    ids=ascii,
)
def test_good_names_make_a_project(
    template: Path, here: Path, answers: dict[str, str], capfd: pytest.CaptureFixture
) -> None:
    project = generate(template, answers)
    (file,) = project.iterdir()
    assert project.parent == here
    assert file.read_text(encoding="utf-8") == answers["project_name"]
    assert project.name == answers.get("repo_name", project.name)
    assert file.stem == answers.get("python_package", file.stem)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "answers, words",
    [
        ({"project_name": "𐌰𐌱"}, "as project_name: it gives no ASCII names"),
        ({"project_name": "MLflow"}, LIBRARY),
        (GOOD | {"project_name": "Iris\x1b[31m"}, f"as project_name: it {SHAPE}"),
        (GOOD | {"project_name": '"""; raise SystemExit #'}, f"it {SHAPE}"),
        (GOOD | {"repo_name": "kept/../iris"}, f"as repo_name: it {SHAPE}"),
        (GOOD | {"repo_name": "a" * 300}, "longer than 50 characters"),
        (GOOD | {"python_package": None}, "not text"),
        (GOOD | {"python_version": "latest"}, "as python_version: it is no version"),
    ],
    ids=ascii,
)
def test_cookiecutter_says_one_line_and_writes_nothing(
    template: Path,
    here: Path,
    answers: dict[str, object],
    words: str,
    capfd: pytest.CaptureFixture,
) -> None:
    before = files_and_folders(here.parent)
    with pytest.raises(SystemExit, match="1"):
        generate(template, answers)
    (line,) = capfd.readouterr().err.splitlines()
    assert words in line
    assert helpful(line)
    assert files_and_folders(here.parent) == before


@pytest.mark.parametrize(
    "answers",
    [{kind: name} for kind in GOOD for name in ("{{ nothing }}", "{% if %}")],
    ids=ascii,
)
def test_nothing_is_written_for_names_that_cookiecutter_cannot_render(
    template: Path, here: Path, answers: dict[str, str]
) -> None:
    before = files_and_folders(here.parent)
    with pytest.raises((UndefinedVariableInTemplate, TemplateSyntaxError)):
        generate(template, answers)
    assert files_and_folders(here.parent) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_refused_name_leaves_an_existing_folder_alone(
    template: Path, here: Path, overwrite: bool
) -> None:
    before = files_and_folders(here)
    answers = GOOD | {"repo_name": "kept", "python_package": "mlflow"}
    with pytest.raises(SystemExit):
        generate(template, answers, overwrite_if_exists=overwrite)
    assert files_and_folders(here) == before


def test_replayed_answers_are_checked_too(
    template: Path, here: Path, capfd: pytest.CaptureFixture
) -> None:
    """Cookiecutter does not render these again: its own call of the hook speaks."""
    generate(template, GOOD)
    (answers,) = (template / "replay").glob("*.json")
    answers = Path(shutil.copy(answers, here.parent))
    answers.write_text(answers.read_text("utf-8").replace("iris_flowers", "mlflow"))
    before = files_and_folders(here)
    with pytest.raises(FailedHookException):
        cookiecutter(
            str(template),
            replay=str(answers),
            overwrite_if_exists=True,
            config_file=str(template / "config.yaml"),
        )
    assert LIBRARY in capfd.readouterr().err
    assert files_and_folders(here) == before


def test_good_name_leaves_an_existing_folder_alone(template: Path, here: Path) -> None:
    before = files_and_folders(here)
    with pytest.raises(OutputDirExistsException):
        generate(template, GOOD | {"repo_name": "kept"})
    assert files_and_folders(here) == before


PLAUSIBLE = st.sampled_from(
    "con mlflow true iris a Z 9 _ - . / ' \" { } \\ \n é".split(" ")
)
NAMES = st.text() | st.lists(PLAUSIBLE, max_size=5).map("".join)


@settings(max_examples=200, deadline=None)
@given(kind=st.sampled_from(list(GOOD)), name=NAMES)
def test_any_name_is_refused_helpfully_or_works(kind: str, name: str) -> None:
    problem = hook.name_problem(kind, name)
    if problem:
        assert helpful(problem)
        return
    assert yaml.safe_load(name) == name
    assert yaml.safe_load(f'"{name}"') == json.loads(f'"{name}"') == name
    assert ast.literal_eval(f"'{name}'") == name
    assert shlex.split(f'"{name}"') == [name]
    if kind != "project_name":
        assert name.isascii()
        assert PureWindowsPath(name).name == PurePosixPath(name).name == name
        assert shlex.quote(name) == name
    if kind == "python_package":
        assert name.isidentifier() and not keyword.iskeyword(name)
        assert name not in sys.stdlib_module_names
        spec = importlib.util.find_spec(name)  # a plain folder has no loader
        assert spec is None or spec.loader is None


@settings(max_examples=50, deadline=None)
@given(project=st.text(), repo=st.text(), package=st.text())
def test_any_name_reaches_the_hook_as_it_is(
    project: str, repo: str, package: str
) -> None:
    names = {"project_name": project, "repo_name": repo, "python_package": package}
    names = EXAMPLES | names
    before = ast.parse(HOOK.read_text("utf-8")).body
    after = ast.parse(render_hook(**names)).body
    (context,) = (
        new
        for old, new in zip(before, after, strict=True)
        if ast.dump(old) != ast.dump(new)
    )
    assert json.loads(ast.literal_eval(context.value)) == names


def test_what_the_project_requires_is_refused_wherever_it_is_generated() -> None:
    assert hook.REQUIRED >= {
        *("kedro", "kedro_datasets", "mlflow", "pandas", "numpy", "scipy", "sklearn"),
        *("skops", "pydantic", "pandera", "matplotlib", "yaml", "pytest", "ruff"),
    }


def test_whatever_is_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    once = functools.cache(metadata.packages_distributions)  # it takes a second
    monkeypatch.setattr(metadata, "packages_distributions", once)
    assert [
        module
        for module in once()
        if module.isidentifier()
        and importlib.util.find_spec(module)
        and not hook.is_installed(module)
    ] == []


@pytest.mark.parametrize(
    "file, refused",
    [
        ("__init__.py", True),
        ("pipeline_registry.py", False),  # this project, generated earlier
        ("notes.txt", False),  # any folder: Python prefers the package
    ],
)
def test_only_what_would_clash_counts_as_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, refused: bool
) -> None:
    monkeypatch.delitem(sys.modules, "iris_flowers", raising=False)
    package = tmp_path / "iris_flowers"
    package.mkdir()
    (package / file).touch()
    if file.endswith(".py"):
        (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    problem = hook.name_problem("python_package", "iris_flowers")
    assert bool(problem) is refused
    assert not refused or problem.endswith("For example: my_iris_flowers")


def test_neighbours_of_the_hook_are_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "iris_flowers", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "iris_flowers.py").touch()
    assert hook.is_installed("iris_flowers")
    assert rendered_hook(tmp_path).main() is None
    assert str(tmp_path) not in sys.path


def test_kedro_need_not_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = [entry for entry in sys.path if "site-packages" not in entry]
    monkeypatch.setattr(sys, "path", elsewhere)
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("kedro")
    assert hook.environment_problem() is None


@pytest.mark.parametrize("version", ["0.19.14", "1.6.2"])
def test_old_kedro_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    installed = tmp_path / "site" / f"kedro-{version}.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text(f"Name: kedro\nVersion: {version}\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    remedy = f"Kedro {version} is too old for this project: pip install -U kedro"
    assert rendered_hook(tmp_path).main() == remedy


def test_old_python_is_refused_in_syntax_that_it_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ast.parse(HOOK.read_text("utf-8"), feature_version=(3, 8))
    monkeypatch.setattr(hook, "OLDEST_PYTHON", (99, 0))
    problem = hook.environment_problem()
    assert problem.endswith("is too old for this project: use 99.0 or newer")
