"""Tells what this machine has for running the project, and how to get the rest.

python check.py            a line a tool, then the command that runs the project here
python check.py --offline  the same without calling the tracking server
python check.py --exports  what `source config.sh` has your shell evaluate
"""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import sys
from contextlib import closing
from operator import eq, ge, gt, le, lt, ne
from pathlib import Path
from shlex import quote
from shutil import which
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parent
OLDEST_PYTHON, OLDEST_KEDRO = (3, 10), (1, 7)
TITLES = {"kedro": "Kedro", "mlflow": "MLflow", "scikit-learn": "scikit-learn"}
COMPARE = {">=": ge, ">": gt, "<=": le, "<": lt, "==": eq, "!=": ne}
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
# MLflow doubles its waits: five retries take a minute and survive a server's restart.
HTTP = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
LOGIN = "export MLFLOW_TRACKING_USERNAME=... MLFLOW_TRACKING_PASSWORD=..."
OK, ABSENT, NOTE, FAIL = "ok", "-", "note", "FAIL"
INSTALL = "pip install -r requirements.txt"
SOURCE = "source config.sh"
START = "start it, or choose another MLFLOW_TRACKING_URI"


class Line(NamedTuple):
    """A line of the table."""

    level: str
    tool: str
    state: str
    remedy: str = ""


def mask(uri: str) -> str:
    """An address without user names, passwords and tokens."""
    secret = r"[^=&]*(?:user|uid|pass|pwd|token|secret|key|auth|odbc)[^=&]*"
    uri = re.sub(rf"(?is)([?&]{secret}=)[^&]*", r"\1***", uri)
    return re.sub(r"(?s)://.*@", "://***@", uri)


def setting(key: str) -> str:
    """A top-level value of mlflow.yml, from the environment's file or from base's."""
    for env in (os.environ.get("KEDRO_ENV") or "local", "base"):
        file = PROJECT / "conf" / env / "mlflow.yml"
        text = file.read_text("utf-8-sig") if file.is_file() else ""
        entry = rf"""^(["']?){key}\1[ \t]*:(?!\S)[ \t]*(.*)"""
        if found := re.search(entry, text, re.MULTILINE):
            quoted = re.match(r"""(["'])(.*?)\1""", found[2])
            plain = re.sub(r"(^|\s)#.*", "", found[2]).strip()
            return quoted[2] if quoted else re.sub(r"^(null|~)$", "", plain)
    return ""


def configured_uri() -> str:
    """Where mlflow.yml says to record; relative SQLite paths start at the project."""
    uri = setting("tracking_uri") or "sqlite:///mlflow.db"
    file = re.fullmatch(r"sqlite:///([^/].*)", uri)
    return f"sqlite:///{PROJECT / file[1]}" if file else uri


def is_conda(home: str | Path) -> bool:
    """Whether a folder has the two files of conda that MLflow uses."""
    files = "bin/conda", "etc/profile.d/conda.sh"
    return bool(home) and all(Path(home, file).is_file() for file in files)


def find_conda() -> str:
    """Folder of conda, "" without one: told by CONDA_EXE or PATH, or else asked for."""
    found = which("conda")
    for exe in map(Path, filter(None, (os.environ.get("CONDA_EXE"), found))):
        for home in (exe.parent.parent, exe.resolve().parent.parent):
            if is_conda(home):
                return str(home)
    # Takes a second; only a wrapper, such as pyenv's, does not tell by its path.
    home = os.popen("conda info --base 2>/dev/null").read().strip() if found else ""
    return home if is_conda(home) else ""


def env_manager() -> str:
    """What `mlflow run` can make an environment with where there is no conda."""
    return "uv" if which("uv") else "virtualenv" if which("pyenv") else "local"


def exports() -> dict[str, str]:
    """The variables that config.sh exports: what the user has not set."""
    given = os.environ.get
    uri = given("MLFLOW_TRACKING_URI") or configured_uri()
    inside = uri.startswith(f"sqlite:///{PROJECT}/")
    # `mlflow run` refuses a name next to an id.
    by_id = given("MLFLOW_EXPERIMENT_ID") or given("MLFLOW_RUN_ID")
    variables = {
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_EXPERIMENT_NAME": "" if by_id else setting("experiment_name"),
        "MLFLOW_BACKEND_STORE_URI": uri if uri.startswith(("sqlite", *PORTS)) else "",
        # Experiments made in `mlflow ui` would go where only a server's clients write.
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": f"{PROJECT}/mlruns" if inside else "",
        "MLFLOW_CONDA_HOME": given("MLFLOW_CONDA_HOME") or find_conda(),
        **HTTP,
        # Marks the value as ours: the first contact of a run may be shorter.
        **{f"KEDRO_{name}": HTTP[name] for name in HTTP if not given(name)},
    }
    # An expression is left to Kedro, which alone can work it out.
    return {k: v for k, v in variables.items() if v and not given(k) and "${" not in v}


def summary(exported: dict[str, str]) -> str:
    """What config.sh says: where runs go, how environments are made, what is amiss."""
    get = {**os.environ, **exported}.get
    uri, home = get("MLFLOW_TRACKING_URI") or "?", get("MLFLOW_CONDA_HOME") or ""
    names = map(
        get, ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID")
    )
    no_conda = f"no conda, so: mlflow run . --env-manager {env_manager()}"
    said = [f"{next(filter(None, names), 'runs')} in {mask(uri)}"]
    said.append(f"conda in {home}" if is_conda(home) else no_conda)
    if uri == "?":
        said.append("tracking_uri is an expression: export MLFLOW_TRACKING_URI")
    elif uri != configured_uri():
        said.append("MLFLOW_TRACKING_URI was set before")
    if f"sqlite:///{PROJECT}/" in uri and re.search(r"\?|%[\da-fA-F]{2}", str(PROJECT)):
        said.append("a path with ? or %20 leads SQLite elsewhere: rename the folder")
    if home and not is_conda(home):
        said.append(f"MLFLOW_CONDA_HOME={home} is no conda: unset it")
    elif not home and (which("mamba") or which("micromamba")):
        said.append("mamba alone does not do for MLflow")
    return "; ".join(said)


def release(version: str) -> tuple[int, ...]:
    """Numbers that compare as versions do: "1.10.0rc1" gives (1, 10)."""
    numbers = re.match(r"\d+(\.\d+)*", version)[0]
    return tuple(map(int, re.sub(r"(\.0+)+$", "", numbers).split(".")))


def within(version: str, ranges: str) -> bool:
    """Whether a version is in ">=1.7,<2"; clauses like "~=1.7" are left to pip."""
    clause = r"(?:^|,)\s*(>=|>|<=|<|==|!=)\s*(\d+(?:\.\d+)*)\s*(?=,|$)"
    bounds = re.findall(clause, ranges)
    return all(COMPARE[sign](release(version), release(at)) for sign, at in bounds)


def package_line(package: str, ranges: str) -> Line:
    """Whether a package is installed for this interpreter, in the range wanted."""
    from importlib import metadata  # slower to import than all the rest

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


def conda_line() -> Line:
    """How MLflow will find conda: by MLFLOW_CONDA_HOME, by CONDA_EXE or on PATH.

    Where only PATH tells, MLflow runs `source activate`. Under a virtual environment
    that is the environment's own script, and the project runs there unnoticed.
    """
    home, exe = os.environ.get("MLFLOW_CONDA_HOME"), os.environ.get("CONDA_EXE")
    if home and not is_conda(home):
        remedy = f"unset MLFLOW_CONDA_HOME; {SOURCE}"
        return Line(NOTE, "conda", f"none in MLFLOW_CONDA_HOME={home}", remedy)
    if home:
        return Line(OK, "conda", f"{home}, by MLFLOW_CONDA_HOME")
    if exe and is_conda(Path(exe).parent.parent):
        return Line(OK, "conda", f"{exe}, by CONDA_EXE")
    found, mamba = which("conda"), which("mamba") or which("micromamba")
    if not found:
        aside = f": MLflow cannot do with {mamba} alone" if mamba else ""
        return Line(ABSENT, "conda", f"not found{aside}")
    activate = (f for f in os.get_exec_path() if Path(f, "activate").is_file())
    beside = Path(next(activate, "")) == Path(found).parent
    if os.name == "nt" or (not exe and beside):
        return Line(OK, "conda", f"{found}, by PATH")
    if find_conda():
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


def tracking_line(uri: str, offline: bool) -> Line:
    """Whether runs can be recorded at an address."""
    if uri.startswith("sqlite:///"):
        return sqlite_line(PROJECT / uri[len("sqlite:///") :].split("?")[0])
    if uri.startswith(("http", *PORTS)) and not offline:
        return server_line(mask(uri))
    return Line(OK, "tracking", mask(uri))


def server_line(shown: str) -> Line:
    """Whether a tracking server, or a database's, answers within two seconds."""
    from http.client import HTTPException  # slower to import than all the rest
    from urllib import error, parse, request

    address = shown.replace("***@", "").rstrip("/")
    try:
        server = parse.urlsplit(address)
        port = PORTS.get(server.scheme.partition("+")[0])
        if not port:
            request.urlopen(f"{address}/health", timeout=2).close()
        elif not server.hostname or re.search(r"\b(host|socket|unix_socket)=", address):
            return Line(OK, "tracking", shown)
        else:
            socket.create_connection((server.hostname, server.port or port), 2).close()
    except error.HTTPError as answer:
        if answer.code in (401, 403):
            return Line(NOTE, "tracking", f"{shown} asks for credentials", LOGIN)
        state = f"{shown} answers with {answer.code}: is it MLflow?"
        return Line(NOTE, "tracking", state, f"open {address}")
    except (OSError, ValueError, HTTPException):
        return Line(FAIL, "tracking", f"{shown} does not answer", START)
    return Line(OK, "tracking", f"{shown} answers")


def sqlite_line(store: Path) -> Line:
    """Whether MLflow can make or use a SQLite file."""
    folder, file = quote(str(store.parent)), quote(str(store))
    remedy = f"mv {file} {file}.broken"
    if not os.access(store.parent, os.W_OK):
        make = f"mkdir -p {folder} && chmod u+w {folder}"
        return Line(FAIL, "tracking", f"cannot write in {store.parent}", make)
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
        return Line(FAIL, "tracking", f"{store} is not a database", remedy)
    if not tables or (schema and newest_schema() in (schema[0], "")):
        return Line(OK, "tracking", str(store))
    if runs:
        upgrade = f"mlflow db upgrade sqlite:///{file}"
        return Line(FAIL, "tracking", f"{store} is another MLflow version's", upgrade)
    return Line(FAIL, "tracking", f"{store} was left half made, without runs", remedy)


def newest_schema() -> str:
    """Revision that the installed MLflow gives its databases, "" without MLflow."""
    from importlib import util

    spec = util.find_spec("mlflow")
    home = Path(*spec.submodule_search_locations) if spec else PROJECT
    scripts = (home / "store/db_migrations/versions").glob("*_*.py")
    text = "".join(script.read_text("utf-8") for script in scripts)
    found = re.findall(r'^(down_)?revision = "(\w+)"', text, re.MULTILINE)
    older = {revision for down, revision in found if down}
    return next((revision for _, revision in found if revision not in older), "")


def ui_line() -> Line:
    """A free port for `mlflow ui`; on macOS AirPlay has its default."""
    first = int(os.environ.get("MLFLOW_PORT") or 5000)
    for port in range(first, 65536):
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)):
                break
    if port == first:
        return Line(OK, "mlflow ui", f"port {port} is free")
    return Line(NOTE, "mlflow ui", f"port {first} is taken", f"mlflow ui --port {port}")


def command(lines: list[Line]) -> str:
    """The `mlflow run` that works with what was found."""
    conda = next(line for line in lines if line.tool == "conda")
    unset = {"MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"} & set(exports())
    source = os.name != "nt" and (conda.remedy == SOURCE or unset)
    install = any(line.remedy == INSTALL for line in lines)
    run = "mlflow run ."
    if conda.level != OK and conda.remedy != SOURCE:
        run += f" --env-manager {env_manager()}"
    return " && ".join([INSTALL] * install + [SOURCE] * bool(source) + [run])


def main() -> int:
    """Prints the table and the command; 1 where Python or Kedro is too old."""
    if "--exports" in sys.argv:
        exported = exports()
        for name, value in exported.items():
            escaped = value.replace("'", r"'\''")
            # Not `quote`, which leaves `=ls` bare: zsh would look for a command `ls`.
            print(f"export {name}='{escaped}'")
        print("config.sh:", summary(exported), file=sys.stderr)
        return 0
    sys.stdout.reconfigure(errors="replace")
    python = sys.version.split()[0]
    if sys.version_info[:2] < OLDEST_PYTHON:
        print(f"FAIL Python {python} is too old: take 3.10 or newer, then try again")
        return 1
    uri = os.environ.get("MLFLOW_TRACKING_URI") or configured_uri()
    lines = [
        Line(OK, "Python", f"{python} in {sys.prefix}"),
        *package_lines(),
        conda_line(),
        tool_line("uv"),
        tool_line("pyenv"),
        git_line(),
        tracking_line(uri, "--offline" in sys.argv),
    ]
    if not uri.startswith("http"):
        lines.append(ui_line())
    tool = max(len(line.tool) for line in lines)
    state = max((len(line.state) for line in lines if line.remedy), default=0)
    for line in lines:
        row = f"{line.level:4} {line.tool:{tool}}  {line.state:{state}}  {line.remedy}"
        print(row.rstrip())
    print()
    print(command(lines))
    return int(any(line.tool == "Kedro" and line.level == FAIL for line in lines))


if __name__ == "__main__":
    sys.exit(main())
