"""Refuse, before a file is written, what cannot become a working project.

A project name is text for people: letters of any language, as in Kedro. The folder
and the package, which are derived from it, are ASCII, which pip, conda and URLs all
take; capitals are fine.
"""

from __future__ import annotations

import importlib.util
import json
import keyword
import re
import sys
from importlib import metadata
from pathlib import Path

OLDEST_PYTHON = (3, 10)
OLDEST_KEDRO = (1, 7)
LONGEST = 50  # two names in a path, within Windows' 260; one in a line of imports

# JSON in a raw literal: no name can end it, and this file is Python as it stands.
CONTEXT = r"""{{ cookiecutter | tojson }}"""

PROJECT, REPO, PACKAGE = "project_name", "repo_name", "python_package"
LETTERS = "it must start with a letter, end with a letter or digit, and hold only"
# Of each answer: its pattern, the same in words, an answer that works.
SHAPES = {
    PROJECT: (
        r"[^\W\d_]([\w -]*[^\W_])?",
        f"{LETTERS} letters, digits, spaces, hyphens and underscores",
        "Iris Flowers",
    ),
    REPO: (
        r"(?!.*\.\.)[A-Za-z]([A-Za-z0-9._-]*[A-Za-z0-9])?",
        f"{LETTERS} ASCII letters, digits, hyphens, underscores and single dots",
        "iris-flowers",
    ),
    PACKAGE: (
        r"[A-Za-z]([A-Za-z0-9_]*[A-Za-z0-9])?",
        f"{LETTERS} ASCII letters, digits and underscores",
        "iris_flowers",
    ),
    "python_version": (r"3\.\d+(\.\d+)?", "it is no version of Python", "3.12"),
}

YAML_WORDS = set("true false yes no on off y n null none".split())
DEVICES = set("con prn aux nul".split()) | {
    f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)
}
FOLDERS = set("build conf data dist mlruns src tests".split())
# What sys.stdlib_module_names leaves out: `test`, and modules of other Pythons.
STANDARD_TOO = set("annotationlib compression distutils imp test tomllib".split())
# Modules that the project imports, or that those import; in lower case.
REQUIRED = set(
    """
    alembic anyio appdirs arrow attr attrs blinker cachetools certifi click cloudpickle
    conftest contourpy cookiecutter cryptography cycler databricks dateutil docker
    dotenv dynaconf fastapi flask flask_cors fonttools fsspec git gitdb google graphene
    graphql gunicorn h11 huey idna ipykernel ipython jinja2 joblib jupyter kedro
    kedro_datasets kedro_telemetry kiwisolver mako markdown_it markupsafe matplotlib
    mlflow mpl_toolkits multidict narwhals numpy omegaconf opentelemetry packaging
    pandas pandera parse pil pip pkg_resources pluggy propcache psycopg2 py pyarrow
    pydantic pydantic_core pygments pylab pyparsing pytest requests rich ruff scipy
    setuptools six sklearn skops slugify smmap sqlalchemy sqlparse starlette
    threadpoolctl typeguard typing_extensions tzdata urllib3 uvicorn werkzeug wheel
    yaml yarl zipp
    """.split()
)


def is_standard(name: str) -> bool:
    """Whether a supported Python has a standard module of this name."""
    return name in sys.stdlib_module_names or name in STANDARD_TOO


def is_installed(name: str) -> bool:
    """Whether this interpreter already imports something else by this name.

    A Kedro project is nothing else: it may be this one, generated and installed
    earlier, and Kedro imports from the ``src`` of the project at hand first.
    """
    spec = importlib.util.find_spec(name)
    if spec is None:
        return False
    if spec.origin is None:  # a namespace package, or any folder on PYTHONPATH
        return name in metadata.packages_distributions()
    return not Path(spec.origin).with_name("pipeline_registry.py").is_file()


# Which names a rule is about, what breaks it in any case of letters, what to say.
RULES = (
    ((PROJECT, REPO, PACKAGE), YAML_WORDS.__contains__, "YAML reads it as a value"),
    ((REPO, PACKAGE), lambda n: n.split(".")[0] in DEVICES, "Windows reserves it"),
    ((PACKAGE,), keyword.iskeyword, "it is a Python keyword"),
    ((PACKAGE,), is_standard, "it is a module of Python's standard library"),
    ((PACKAGE,), FOLDERS.__contains__, "it is the name of a folder in every project"),
    ((PACKAGE,), REQUIRED.__contains__, "it is a library that the project needs"),
    ((PACKAGE,), is_installed, "it is a package that is installed here"),
)


def name_problem(kind: str, name: object) -> str | None:
    """Return the refusal of an answer that cannot work."""
    pattern, shape, _ = SHAPES[kind]
    why = None
    if not isinstance(name, str):
        why = "it is not text (quote it)"
    elif len(name) > LONGEST:
        why = f"it is longer than {LONGEST} characters"
    elif not re.fullmatch(pattern, name):
        why = shape
    else:
        for kinds, breaks, reason in RULES:
            if kind in kinds and (breaks(name) or breaks(name.lower())):
                why = reason
                break
    return why and refusal(kind, name, why)


def refusal(kind: str, name: object, why: str) -> str:
    """Say in one line why an answer cannot work, and one that does."""
    example = SHAPES[kind][2]
    if name == example:  # another package of that name is installed
        example = f"my_{example}"
    return f"Cannot use {name!r:.70} as {kind}: {why}. For example: {example}"


def environment_problem() -> str | None:
    """Say in one line that Python or Kedro is too old, and the remedy."""
    python = sys.version.split()[0]
    if sys.version_info < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return f"Python {python} is too old for this project: use {oldest} or newer"
    try:
        kedro = metadata.version("kedro")
    except metadata.PackageNotFoundError:  # plain cookiecutter needs no Kedro
        return None
    if tuple(map(int, re.findall(r"\d+", kedro)[:2])) < OLDEST_KEDRO:
        return f"Kedro {kedro} is too old for this project: pip install -U kedro"
    return None


def main() -> str | None:
    """Return the first problem; ``sys.exit`` prints it and makes the status 1."""
    # The hook is a temporary file, and its neighbours are not installed packages.
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != here]
    answers = json.loads(CONTEXT)
    problems = [name_problem(kind, answers[kind]) for kind in SHAPES]
    if not problems[0] and answers[REPO] == answers[PACKAGE] == "":
        why = "it gives no ASCII names for folder and package"
        problems[0] = refusal(PROJECT, answers[PROJECT], why)
    return environment_problem() or next(filter(None, problems), None)


if __name__ == "__main__":
    sys.exit(main())
