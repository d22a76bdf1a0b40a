"""Answers to the starter's questions: some make a project, some are refused."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from cookiecutter.generate import generate_files
from cookiecutter.prompt import render_variable
from cookiecutter.utils import create_env_with_context
from jinja2 import Environment
from runs import ROOT

HOOK = ROOT / "hooks" / "pre_gen_project.py"
QUESTIONS = json.loads((ROOT / "cookiecutter.json").read_text("utf-8"))
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
    {"project_name": "a" * 50},
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
        (GOOD | {kind: "a" * length}, "longer than 50 characters")
        for kind in GOOD
        for length in (51, 300)  # no file system takes a folder of 300
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


def helpful(line: str) -> bool:
    """Whether a refusal names the answer at fault, says why and gives an example."""
    found = re.fullmatch(r"Cannot use .* as (\w+): .+\. For example: (.+)", line)
    return found is not None and found[2] == EXAMPLES[found[1]] and line.isprintable()


def files_and_folders(folder: Path) -> dict[str, bytes | None]:
    """Return everything under a folder: the contents of files, None for folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def make_small_template(folder: Path) -> Path:
    """Lay out the starter's questions and hook, with a project of one file."""
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


def make_folder_with_work(folder: Path) -> Path:
    """Make a folder to generate in, which already holds the folder ``kept``."""
    (folder / "kept").mkdir(parents=True)
    (folder / "kept" / "work.txt").write_text("precious", encoding="utf-8")
    return folder


def all_answers(answers: dict[str, object]) -> dict[str, object]:
    """Return all answers, derived by cookiecutter where they are not given."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)  # where local_extensions.py is
        environment = create_env_with_context({"cookiecutter": QUESTIONS})
    done: dict[str, object] = {}
    for question, default in QUESTIONS.items():
        if not question.startswith("_"):
            raw = answers.get(question, default)
            done[question] = render_variable(environment, raw, done)
    return done


COMPILE = Environment.compile
COMPILED: dict[tuple, Any] = {}  # templates and names of files, once for all projects


def compile_once(self: Environment, *source: Any) -> Any:
    """Compile a template, in place of ``Environment.compile``."""
    if source not in COMPILED:
        COMPILED[source] = COMPILE(self, *source)
    return COMPILED[source]


def render_project(answers: dict[str, object], folder: Path) -> Path:
    """Render the project in this process, without the check of the names."""
    context = all_answers(answers) | {"_extensions": QUESTIONS["_extensions"]}
    options = {"output_dir": str(folder), "accept_hooks": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        patch.setattr(Environment, "compile", compile_once)
        return Path(generate_files(str(ROOT), {"cookiecutter": context}, **options))
