"""Names that cannot work are refused before anything is written.

The check runs on a template of one file, so that these tests are fast and say nothing
about the files of the project.
"""

import ast
import importlib.util
import json
import keyword
import os
import re
import shlex
import shutil
import subprocess
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

ROOT = Path(__file__).resolve().parents[2]
HOOK = ROOT / "hooks" / "pre_gen_project.py"
GOOD = {
    "project_name": "Iris Flowers",
    "repo_name": "iris-flowers",
    "python_package": "iris_flowers",
}
EXAMPLES = GOOD | {"python_version": "3.12"}

# Answers that make a project. What is not answered is derived, as in cookiecutter.json.
ACCEPTED: list[dict[str, str]] = [
    {"project_name": "Iris Flowers"},
    {"project_name": "iris-flowers"},
    {"project_name": "iris_flowers"},
    {"project_name": "IRIS Flowers 2"},
    {"project_name": "Churn - West  2026"},
    {"project_name": "X2"},
    {"project_name": "match"},  # soft keywords are identifiers
    {"project_name": "Type"},
    {"project_name": "print"},
    {"project_name": "Nullable"},
    {"project_name": "Console"},  # begins like a device
    {"project_name": "kedro mlflow demo"},
    {"project_name": "a" * 64},
    {"project_name": "Iris Flowers", "python_package": "IrisFlowers"},
    {"project_name": "Iris Flowers", "repo_name": "Iris_Flowers.v2"},
    {"project_name": "Iris Flowers", "repo_name": "mlflow"},
    {"project_name": "Żółte Kwiaty"},
    {"project_name": "Blütenlese Straße"},
    {"project_name": "Цветы ириса"},
    {"project_name": "中文"},
    {"project_name": "花の分類", "repo_name": "hana", "python_package": "hana"},
    {"project_name": "𐌰", "repo_name": "gothic", "python_package": "gothic"},
    {"project_name": "Iris Flowers", "python_version": "3.12"},
]

SHAPE = "must start with a letter"
YAML = "YAML reads it"
WINDOWS = "Windows reserves it"
STANDARD = "Python's standard library"
LIBRARY = "a library that the project needs"

# Answers that make no project, and what the message must say. Names are derived from
# a project name only where that is the point.
REFUSED: list[tuple[dict[str, object], str]] = [
    *[
        (GOOD | {"project_name": name}, f"as project_name: it {SHAPE}")
        for name in (
            "",
            "   ",
            "2026 flowers",
            " Iris",
            "Iris ",
            "Iris-",
            "-Iris",
            "_iris_",
            "Iris\n",
            "Iris\nFlowers",
            "Iris\u2028Flowers",
            "Iris\u202eFlowers",
            "Iris\tFlowers",
            "Iris\0",
            "Iris\x1b[31m",
            "Iris/Flowers",
            "..",
            "Iris\\",
            "Iris's",
            '"""',
            '\\"""; raise SystemExit #',
            "\\'; raise SystemExit #",
            "Iris: Flowers",
            "Iris #1",
            "$(touch iris)",
            "`touch iris`",
            "Iris & Flowers",
            "<Iris>",
            "{{ '{{ 1 }}' }}",
            "{{ '{% raw %}' }}",
            "{{ 6 * 7 }}",
            "Iris 🌸",
        )
    ],
    *[
        (GOOD | {"repo_name": name}, f"as repo_name: it {SHAPE}")
        for name in (
            "",
            "..",
            "-iris",
            "--help",
            ".iris",
            "../iris",
            "kept/iris",
            "kept/../iris",
            "iris\\flowers",
            "iris..flowers",
            "iris.",
            "iris ",
            "iris flowers",
            "C:iris",
            "~iris",
            "1e5",
            "2026-01-31",
            "0x1F",
            "blüten",
            "iris;ls",
            "iris*",
            "iris\n",
            "iris\0",
        )
    ],
    *[
        (GOOD | {"python_package": name}, f"as python_package: it {SHAPE}")
        for name in (
            "",
            "1234",
            "iris flowers",
            "iris-flowers",
            "iris.flowers",
            "../iris",
            "_iris",
            "__main__",
            "iris_",
            "blüten",
            "ﬁrst",
            "iris;import os",
            "iris\n",
            1.5,
        )
    ],
    *[
        (GOOD | {"python_package": name}, message)
        for message, names in {
            "Python keyword": ("class", "lambda", "async"),
            YAML: ("None", "True", "off"),
            WINDOWS: ("nul", "COM1"),
            STANDARD: ("json", "antigravity", "test", "distutils", "tomllib", "Json"),
            LIBRARY: ("mlflow", "sklearn", "pydantic", "kedro_datasets", "PIL"),
            "a folder in every project": ("src", "tests", "conf", "data", "build"),
            "installed here": ("hypothesis", "sortedcontainers"),
        }.items()
        for name in names
    ],
    *[
        (GOOD | {"repo_name": name}, message)
        for message, names in {
            YAML: ("true", "null", "On", "n"),
            WINDOWS: ("con", "NUL.txt", "lpt9.a.b"),
        }.items()
        for name in names
    ],
    *[
        (GOOD | {kind: "a" * length}, "longer than 64 characters")
        for kind in GOOD
        for length in (65, 300)  # no file system takes a folder of 300
    ],
    *[(GOOD | {kind: value}, "not text") for kind in GOOD for value in (True, None)],
    ({"project_name": "   "}, f"as project_name: it {SHAPE}"),
    ({"project_name": "𐌰𐌱"}, "as project_name: it gives no ASCII names"),
    *[
        (GOOD | {"python_version": version}, "as python_version: it is no version")
        for version in ("", "3", "2.7.18", "python3.12", "3.12\n", "latest")
    ],
    ({"project_name": "Yes"}, YAML),
    ({"project_name": "Aux"}, WINDOWS),
    ({"project_name": "Class"}, "as python_package: it is a Python keyword"),
    ({"project_name": "Email"}, STANDARD),
    ({"project_name": "Test"}, STANDARD),
    ({"project_name": "MLflow"}, LIBRARY),
]


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


def helpful(line: str) -> bool:
    """Whether a refusal names the answer at fault, says why and gives an example."""
    found = re.fullmatch(r"Cannot use .* as (\w+): .+\. For example: (.+)", line)
    return found is not None and found[2] == EXAMPLES[found[1]] and line.isprintable()


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything under a folder: the contents of files, None for folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter's questions and hook, with a project of one file."""
    folder = tmp_path_factory.mktemp("starter")
    for name in ("cookiecutter.json", "prompts.yml", "local_extensions.py"):
        shutil.copy(ROOT / name, folder)
    (folder / "hooks").mkdir()
    shutil.copy(HOOK, folder / "hooks")
    project = folder / "{{ cookiecutter.repo_name }}"
    project.mkdir()
    (project / "{{ cookiecutter.python_package }}.txt").write_text(
        "{{ cookiecutter.project_name }}", encoding="utf-8"
    )
    (folder / "config.yaml").write_text(
        f"replay_dir: {json.dumps(str(folder / 'replay'))}", encoding="utf-8"
    )
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder to generate in, which already holds the folder ``kept``."""
    folder = tmp_path / "projects"
    (folder / "kept").mkdir(parents=True)
    (folder / "kept" / "work.txt").write_text("precious", encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


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


def kedro_new(template: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Generate in the current folder with ``kedro new``."""
    return subprocess.run(
        [sys.executable, "-m", "kedro", "new", "--starter", str(template), *options],
        env=os.environ
        | {
            "COOKIECUTTER_CONFIG": str(template / "config.yaml"),
            "DO_NOT_TRACK": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
    )


def run_hook(folder: Path, *flags: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the rendered hook, all names being good, as cookiecutter does."""
    script = folder / "hook.py"
    script.write_text(render_hook(), encoding="utf-8")
    return subprocess.run(
        [sys.executable, *flags, str(script)],
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("answers", ACCEPTED, ids=ascii)
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


@pytest.mark.parametrize("answers, words", REFUSED, ids=ascii)
def test_refused_in_one_line_and_nothing_is_written(
    template: Path,
    here: Path,
    answers: dict[str, object],
    words: str,
    capfd: pytest.CaptureFixture,
) -> None:
    before = tree(here.parent)
    with pytest.raises(SystemExit, match="1"):
        generate(template, answers)
    (line,) = capfd.readouterr().err.splitlines()
    assert words in line
    assert helpful(line)
    assert tree(here.parent) == before


@pytest.mark.parametrize(
    "answers",
    [{kind: name} for kind in GOOD for name in ("{{ nothing }}", "{% if %}")],
    ids=ascii,
)
def test_nothing_is_written_for_names_that_cookiecutter_cannot_render(
    template: Path, here: Path, answers: dict[str, str]
) -> None:
    before = tree(here.parent)
    with pytest.raises((UndefinedVariableInTemplate, TemplateSyntaxError)):
        generate(template, answers)
    assert tree(here.parent) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_refused_name_leaves_an_existing_folder_alone(
    template: Path, here: Path, overwrite: bool
) -> None:
    before = tree(here)
    answers = GOOD | {"repo_name": "kept", "python_package": "mlflow"}
    with pytest.raises(SystemExit):
        generate(template, answers, overwrite_if_exists=overwrite)
    assert tree(here) == before


def test_replayed_answers_are_checked_too(
    template: Path, here: Path, capfd: pytest.CaptureFixture
) -> None:
    """Cookiecutter does not render these again: its own call of the hook speaks."""
    generate(template, GOOD)
    (answers,) = (template / "replay").glob("*.json")
    answers = Path(shutil.copy(answers, here.parent))
    answers.write_text(answers.read_text("utf-8").replace("iris_flowers", "mlflow"))
    before = tree(here)
    with pytest.raises(FailedHookException):
        cookiecutter(
            str(template),
            replay=str(answers),
            overwrite_if_exists=True,
            config_file=str(template / "config.yaml"),
        )
    assert LIBRARY in capfd.readouterr().err
    assert tree(here) == before


def test_good_name_leaves_an_existing_folder_alone(template: Path, here: Path) -> None:
    before = tree(here)
    with pytest.raises(OutputDirExistsException):
        generate(template, GOOD | {"repo_name": "kept"})
    assert tree(here) == before


@pytest.mark.parametrize(
    "name, made",
    [
        ("Iris Flowers", "iris-flowers/iris_flowers.txt"),
        ("Żółte Kwiaty", "zolte-kwiaty/zolte_kwiaty.txt"),
        ("中文", "zhong-wen/zhong_wen.txt"),
    ],
    ids=ascii,
)
def test_kedro_new_makes_a_project(
    template: Path, here: Path, name: str, made: str
) -> None:
    done = kedro_new(template, "--name", name, "--telemetry", "no")
    assert done.returncode == 0, done.stderr
    assert (here / made).read_text(encoding="utf-8") == name


@pytest.mark.parametrize(
    "answers, words",
    [
        ({"project_name": "MLflow"}, LIBRARY),
        ({"project_name": "𐌰𐌱"}, "it gives no ASCII names"),
        (GOOD | {"repo_name": "../iris"}, f"as repo_name: it {SHAPE}"),
        (GOOD | {"repo_name": "kept", "python_package": "mlflow"}, LIBRARY),
    ],
    ids=ascii,
)
def test_kedro_new_says_why_a_name_is_refused_and_nothing_else(
    template: Path, here: Path, answers: dict[str, str], words: str
) -> None:
    options = ["--name", answers["project_name"]]
    if len(answers) > 1:
        config = template / "answers.yml"
        config.write_text(yaml.safe_dump(answers), encoding="utf-8")
        options = ["--config", str(config)]
    before = tree(here.parent)
    done = kedro_new(template, *options)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert words in line
    assert helpful(line)
    assert tree(here.parent) == before


PLAUSIBLE = st.sampled_from(
    "con mlflow true iris a Z 9 _ - . / ' \" { } \\ \n é".split(" ")
)
NAMES = st.text() | st.lists(PLAUSIBLE, max_size=5).map("".join)


@settings(max_examples=300, deadline=None)
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


def test_whatever_is_installed_is_refused() -> None:
    assert [
        module
        for module in metadata.packages_distributions()
        if module.isidentifier() and not hook.is_installed(module)
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
    package = tmp_path / "iris_flowers"
    package.mkdir()
    (package / file).touch()
    if file.endswith(".py"):
        (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    problem = hook.name_problem("python_package", "iris_flowers")
    assert bool(problem) is refused
    assert not refused or problem.endswith("For example: my_iris_flowers")


def test_neighbours_of_the_hook_are_not_installed(tmp_path: Path) -> None:
    (tmp_path / "iris_flowers.py").touch()
    done = run_hook(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_kedro_need_not_be_installed(tmp_path: Path) -> None:
    done = run_hook(tmp_path, "-S")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("version", ["0.19.14", "1.6.2"])
def test_old_kedro_is_refused_with_the_remedy(tmp_path: Path, version: str) -> None:
    installed = tmp_path / "site" / f"kedro-{version}.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text(f"Name: kedro\nVersion: {version}\n")
    done = run_hook(tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"Kedro {version} is too old for this project: pip install -U kedro"
    ]


def test_old_python_is_refused_in_syntax_that_it_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ast.parse(HOOK.read_text("utf-8"), feature_version=(3, 8))
    monkeypatch.setattr(hook, "OLDEST_PYTHON", (99, 0))
    problem = hook.environment_problem()
    assert problem.endswith("is too old for this project: use 99.0 or newer")


def test_oldest_kedro_is_said_alike() -> None:
    extensions = load(ROOT / "local_extensions.py")
    assert extensions.OLDEST_KEDRO.startswith("{}.{}.".format(*hook.OLDEST_KEDRO))
