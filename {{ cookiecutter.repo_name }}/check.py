"""Tells what this machine has for running the project, and how to get the rest.

python check.py            a line a tool, then the command that runs the project here
python check.py --offline  the same without calling the tracking server
"""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import sys
from contextlib import closing
from importlib import metadata, util
from operator import eq, ge, gt, le, lt, ne
from pathlib import Path
from shlex import quote
from shutil import which
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parent
OLDEST_PYTHON, OLDEST_KEDRO = (3, 10), (1, 7)
TITLES = {"kedro": "Kedro", "mlflow": "MLflow", "scikit-learn": "scikit-learn"}
COMPARE = {">=": ge, ">": gt, "<=": le, "<": lt, "==": eq, "!=": ne}
OK, ABSENT, NOTE, FAIL = "ok", "-", "note", "FAIL"
INSTALL = "pip install -r requirements.txt"
SOURCE = "source config.sh"


class Line(NamedTuple):
    """A line of the table."""

    level: str
    tool: str
    state: str
    remedy: str = ""


def release(version: str) -> tuple[int, ...]:
    """Numbers that compare as versions do: "1.10.0rc1" gives (1, 10)."""
    numbers = re.match(r"\d+(\.\d+)*", version)[0]
    return tuple(map(int, re.sub(r"(\.0+)+$", "", numbers).split(".")))


def within(version: str, ranges: str) -> bool:
    """Whether a version is in ">=1.7,<2"; clauses like "~=1.7" are left to pip."""
    clause = r"(?:^|,)\s*(>=|>|<=|<|==|!=)\s*(\d+(?:\.\d+)*)\s*(?=,|$)"
    return all(
        COMPARE[sign](release(version), release(bound))
        for sign, bound in re.findall(clause, ranges)
    )


def package_line(package: str, ranges: str) -> Line:
    """Whether a package is installed for this interpreter, in the range wanted."""
    tool = TITLES.get(package, package)
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        return Line(NOTE, tool, "not installed", INSTALL)
    if package == "kedro" and release(version) < OLDEST_KEDRO:
        return Line(FAIL, tool, f"{version} is too old for {ranges}", INSTALL)
    if not within(version, ranges):
        return Line(NOTE, tool, f"{version} is not {ranges}", INSTALL)
    if package == "mlflow" and not which("mlflow"):
        return Line(NOTE, tool, f"{version}, not on PATH", f"activate {sys.prefix}")
    return Line(OK, tool, version)


def package_lines() -> list[Line]:
    """A line for each main package, and one for the others that are amiss."""
    text = (PROJECT / "requirements.txt").read_text("utf-8")
    entry = r"^(\w[\w.-]*)(?:\[.*\])?[ \t]*([^;#@\n]*?)[ \t]*(?:#.*)?$"
    lines = [package_line(*found) for found in re.findall(entry, text, re.MULTILINE)]
    named = [line for line in lines if line.tool in TITLES.values()]
    amiss = [line.tool for line in lines if line not in named and line.level != OK]
    state = f"without {', '.join(amiss)}"
    return named + [Line(NOTE, "packages", state, INSTALL)] * bool(amiss)


def is_conda(home: Path) -> bool:
    """Whether a folder has the two files of conda that MLflow uses."""
    files = "bin/conda", "etc/profile.d/conda.sh"
    return all((home / file).is_file() for file in files)


def conda_line() -> Line:
    """How MLflow will find conda: by MLFLOW_CONDA_HOME, by CONDA_EXE or on PATH.

    Where only PATH tells, MLflow runs `source activate`. Under a virtual environment
    that is the environment's own script, and the project runs there unnoticed.
    """
    home, exe = os.environ.get("MLFLOW_CONDA_HOME"), os.environ.get("CONDA_EXE")
    if home and not is_conda(Path(home)):
        remedy = f"unset MLFLOW_CONDA_HOME; {SOURCE}"
        return Line(NOTE, "conda", f"none in MLFLOW_CONDA_HOME={home}", remedy)
    if home:
        return Line(OK, "conda", f"{home}, by MLFLOW_CONDA_HOME")
    if exe and is_conda(Path(exe).parent.parent):
        return Line(OK, "conda", f"{exe}, by CONDA_EXE")
    found = which("conda")
    if not found:
        mamba = which("mamba") or which("micromamba")
        aside = f": MLflow cannot do with {mamba} alone" if mamba else ""
        return Line(ABSENT, "conda", f"not found{aside}")
    folders = map(Path, os.get_exec_path())
    activate = next((f for f in folders if (f / "activate").is_file()), None)
    if os.name == "nt" or (not exe and activate == Path(found).parent):
        return Line(OK, "conda", f"{found}, by PATH")
    if is_conda(Path(found).resolve().parent.parent):
        return Line(NOTE, "conda", f"{found}, but not its `activate`", SOURCE)
    return Line(ABSENT, "conda", f"{found} has no etc/profile.d/conda.sh")


def tool_line(tool: str) -> Line:
    """Whether MLflow will find a tool, for which it looks on PATH only."""
    found = which(tool)
    if found:
        return Line(OK, tool, f"{found}, by PATH")
    return Line(ABSENT, tool, "not found")


def git_line() -> Line:
    """Whether a run can name the commit that made it."""
    if not which("git"):
        return Line(NOTE, "git", "not found: runs will name no commit", "install git")
    if any((folder / ".git").exists() for folder in (PROJECT, *PROJECT.parents)):
        return Line(OK, "git", "the project is in a repository")
    remedy = "git init && git add . && git commit -m 'First commit'"
    return Line(NOTE, "git", "no repository: runs will name no commit", remedy)


def setting(key: str) -> str:
    """A top-level value of mlflow.yml, from the environment's file or from base's."""
    for env in (os.environ.get("KEDRO_ENV") or "local", "base"):
        file = PROJECT / "conf" / env / "mlflow.yml"
        text = file.read_text("utf-8") if file.is_file() else ""
        found = re.search(rf"^{key}\s*:[ \t]*(.*)", text, re.MULTILINE)
        if found:
            quoted = re.match(r"""(["'])(.*?)\1""", found[1])
            plain = re.sub(r"(^|\s)#.*", "", found[1]).strip()
            return quoted[2] if quoted else re.sub(r"^(null|~)$", "", plain)
    return ""


def tracking_line(uri: str, offline: bool) -> Line:
    """Whether runs can be recorded at an address."""
    masked = re.sub(r"://([^:/@]*:[^@]*|[^/@]*)@", "://***@", uri)
    masked = re.sub(r"password=[^&]*", "password=***", masked)
    if uri.startswith("sqlite:///"):
        return sqlite_line(PROJECT / uri[len("sqlite:///") :].split("?")[0])
    if uri.startswith("http") and not offline:
        return server_line(re.sub(r"://.*@", "://", uri).rstrip("/"), masked)
    return Line(OK, "tracking", masked)


def server_line(address: str, shown: str) -> Line:
    """Whether a tracking server answers within two seconds."""
    from http.client import HTTPException  # slower to import than all the rest
    from urllib import error, request

    try:
        request.urlopen(f"{address}/health", timeout=2).close()
    except error.HTTPError as answer:
        state = f"{shown} answers with {answer.code}: is it MLflow?"
        return Line(NOTE, "tracking", state, f"open {address}")
    except (OSError, ValueError, HTTPException):
        remedy = "start it, or choose another MLFLOW_TRACKING_URI"
        return Line(FAIL, "tracking", f"{shown} does not answer", remedy)
    return Line(OK, "tracking", f"{shown} answers")


def sqlite_line(store: Path) -> Line:
    """Whether MLflow can make or use a SQLite file."""
    folder, file = quote(str(store.parent)), quote(str(store))
    if not os.access(store.parent, os.W_OK):
        remedy = f"mkdir -p {folder} && chmod u+w {folder}"
        return Line(FAIL, "tracking", f"cannot write in {store.parent}", remedy)
    if not store.exists():
        return Line(OK, "tracking", f"{store}, will be created")
    try:
        address = f"{store.as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=0.2)) as db:
            tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
            made = "alembic_version" in tables
            schema = made and db.execute("SELECT * FROM alembic_version").fetchone()
            runs = "runs" in tables and db.execute("SELECT 1 FROM runs").fetchone()
    except sqlite3.OperationalError as error:
        return Line(NOTE, "tracking", f"{store}: {error}", "close what has it open")
    except sqlite3.DatabaseError:
        remedy = f"mv {file} {file}.broken"
        return Line(FAIL, "tracking", f"{store} is not a database", remedy)
    if not tables or (schema and newest_schema() in (schema[0], "")):
        return Line(OK, "tracking", str(store))
    if runs:
        remedy = f"mlflow db upgrade sqlite:///{file}"
        return Line(FAIL, "tracking", f"{store} is another MLflow version's", remedy)
    remedy = f"mv {file} {file}.broken"
    return Line(FAIL, "tracking", f"{store} was left half made, without runs", remedy)


def newest_schema() -> str:
    """Revision that the installed MLflow gives its databases, "" without MLflow."""
    spec = util.find_spec("mlflow")
    home = Path(*spec.submodule_search_locations) if spec else PROJECT
    scripts = (home / "store/db_migrations/versions").glob("*_*.py")
    text = "".join(script.read_text("utf-8") for script in scripts)
    found = re.findall(r'^(down_)?revision = "(\w+)"', text, re.MULTILINE)
    older = {revision for down, revision in found if down}
    return next((revision for _, revision in found if revision not in older), "")


def answers(port: int) -> bool:
    """Whether something listens on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ui_line() -> Line:
    """A free port for `mlflow ui`; on macOS AirPlay has its default."""
    first = int(os.environ.get("MLFLOW_PORT") or 5000)
    free = next(port for port in range(first, 65536) if not answers(port))
    if free == first:
        return Line(OK, "mlflow ui", f"port {free} is free")
    return Line(NOTE, "mlflow ui", f"port {first} is taken", f"mlflow ui --port {free}")


def command(lines: dict[str, Line]) -> str:
    """The `mlflow run` that works with what was found."""
    sourced = {"MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"} <= set(os.environ)
    conda = lines["conda"]
    steps, run = [], "mlflow run ."
    if any(line.remedy == INSTALL for line in lines.values()):
        steps.append(INSTALL)
    if os.name != "nt" and (conda.remedy == SOURCE or not sourced):
        steps.append(SOURCE)
    if conda.level != OK and conda.remedy != SOURCE:
        managers = {"uv": "uv", "pyenv": "virtualenv"}
        found = (managers[tool] for tool in managers if lines[tool].level == OK)
        run += f" --env-manager {next(found, 'local')}"
    return " && ".join([*steps, run])


def main() -> int:
    """Prints the table and the command; 1 where Python or Kedro is too old."""
    sys.stdout.reconfigure(errors="replace")
    python = sys.version.split()[0]
    if sys.version_info[:2] < OLDEST_PYTHON:
        print(f"FAIL Python {python} is too old: take 3.10 or newer, then try again")
        return 1
    uri = os.environ.get("MLFLOW_TRACKING_URI") or setting("tracking_uri")
    lines = [
        Line(OK, "Python", f"{python} in {sys.prefix}"),
        *package_lines(),
        conda_line(),
        tool_line("uv"),
        tool_line("pyenv"),
        git_line(),
        tracking_line(uri or "sqlite:///mlflow.db", "--offline" in sys.argv),
    ]
    if not uri.startswith("http"):
        lines.append(ui_line())
    tool = max(len(line.tool) for line in lines)
    state = max((len(line.state) for line in lines if line.remedy), default=0)
    for line in lines:
        row = f"{line.level:4} {line.tool:{tool}}  {line.state:{state}}  {line.remedy}"
        print(row.rstrip())
    print()
    print(command({line.tool: line for line in lines}))
    return int(any(line.tool == "Kedro" and line.level == FAIL for line in lines))


if __name__ == "__main__":
    sys.exit(main())
