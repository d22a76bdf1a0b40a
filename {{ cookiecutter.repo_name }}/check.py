"""Tells what this machine has for running the project, and how to get the rest.

python check.py            a line a tool, then the commands that run the project here
python check.py --offline  the same without calling the tracking server
python check.py --exports  what `source config.sh` has your shell evaluate
"""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from contextlib import closing
from difflib import get_close_matches
from functools import lru_cache
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path
from shlex import quote
from shutil import which

PROJECT = Path(__file__).resolve().parent
OLDEST_PYTHON = (3, 10)
DEFAULT = "sqlite:///mlflow.db"
DATABASES = ("postgresql", "mysql", "mssql")
# Waits of 0, 4, 8, 16, 32 seconds: servers may restart, and a dead one costs a minute.
HTTP = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
LOGIN = "export MLFLOW_TRACKING_USERNAME=... MLFLOW_TRACKING_PASSWORD=... (or _TOKEN)"
OTHER = "start or repair it, or choose another MLFLOW_TRACKING_URI"
UV = "" if find_spec("pip") or not which("uv") else "uv "
INSTALL = f"{UV}pip install -r requirements.txt"
SETTINGS = ("tracking_uri", "experiment_name", "artifact_location", "lock_timeout")
SOURCE, TOOLS = "source config.sh", ("uv", "pyenv")


def mask(text: str) -> str:
    """A text without the user names, passwords and tokens of addresses."""
    secret = r"[^=&]*(?:user|uid|pass|pwd|token|secret|key|auth|odbc)[^=&]*"
    text = re.sub(rf"(?is)([?&]{secret}=)[^&]*", r"\1***", text)
    return re.sub(r"(?s)://.*@", "://***@", text)


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
    uri = setting("tracking_uri") or DEFAULT
    file = re.fullmatch(r"sqlite:///([^/].*)", uri)
    return f"sqlite:///{PROJECT / file[1]}" if file else uri


def is_conda(home: str | Path) -> bool:
    """Whether a folder has the two files of conda that MLflow uses."""
    files = "bin/conda", "etc/profile.d/conda.sh"
    return bool(home) and all(Path(home, file).is_file() for file in files)


@lru_cache
def find_conda() -> str:
    """Folder of conda, "" without one: told by a variable or by PATH, or asked for."""
    if home := os.environ.get("MLFLOW_CONDA_HOME"):
        return home if is_conda(home) else ""
    found = which("conda")
    for exe in map(Path, filter(None, (os.environ.get("CONDA_EXE"), found))):
        for place in (exe.parent.parent, exe.resolve().parent.parent):
            if is_conda(place):
                return str(place)
    # Takes a second; only a wrapper, such as pyenv's, does not tell by its path.
    home = os.popen("conda info --base 2>/dev/null").read().strip() if found else ""
    return home if is_conda(home) else ""


def mlflow_run() -> str:
    """The `mlflow run` for the best tool that makes environments here."""
    other = "uv" if which("uv") else "virtualenv" if which("pyenv") else "local"
    return "mlflow run ." + ("" if find_conda() else f" --env-manager {other}")


def exports() -> dict[str, str]:
    """The variables that config.sh exports: what the user has not set."""
    given = os.environ.get
    uri = given("MLFLOW_TRACKING_URI") or configured_uri()
    database = uri.startswith(("sqlite", *DATABASES))
    inside = uri.startswith(f"sqlite:///{PROJECT}/")
    # `mlflow run` refuses a name next to an id.
    by_id = given("MLFLOW_EXPERIMENT_ID") or given("MLFLOW_RUN_ID")
    variables = {
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_EXPERIMENT_NAME": "" if by_id else setting("experiment_name"),
        "MLFLOW_BACKEND_STORE_URI": uri if database else "",
        # Experiments made in `mlflow ui` would go where only a server's clients write.
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": f"{PROJECT}/mlruns" if inside else "",
        "MLFLOW_CONDA_HOME": find_conda(),
        # MLflow prints the address of a run's page with all that is in it.
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": (
            "true" if uri.startswith("http") and "@" in uri else ""
        ),
        **HTTP,
        # Marks the value as ours: the first contact of a run may be shorter.
        **{f"KEDRO_{name}": HTTP[name] for name in HTTP if not given(name)},
    }
    # An expression is left to Kedro, which alone can work it out.
    return {k: v for k, v in variables.items() if v and not given(k) and "${" not in v}


def summary(exported: dict[str, str]) -> str:
    """What config.sh says: where runs go, and how environments are made."""
    get = {**os.environ, **exported}.get
    names = "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID"
    uri, home = get("MLFLOW_TRACKING_URI"), find_conda()
    said = [f"{next(filter(None, map(get, names)), 'runs')} in {mask(uri or '?')}"]
    said.append(f"conda in {home}" if home else f"no conda, so: {mlflow_run()}")
    if not uri:
        said.append("tracking_uri is an expression: export MLFLOW_TRACKING_URI")
    elif uri != configured_uri():
        said.append("MLFLOW_TRACKING_URI was set before")
    return "; ".join(said)


def release(version: str) -> tuple[int, ...]:
    """Numbers that compare as versions do: "1.10.0rc1" gives (1, 10)."""
    numbers = re.findall(r"^\d+(?:\.\d+)*", version)[0]
    return tuple(map(int, re.sub(r"(\.0+)+$", "", numbers).split(".")))


def within(version: str, ranges: str) -> bool:
    """Whether a version is in ">=1.7,<2"; other clauses are left to pip."""
    bounds = re.findall(r"(>=|<)\s*(\d[\d.]*)", ranges)
    return all(
        (release(version) >= release(at)) == (sign != "<") for sign, at in bounds
    )


def package_rows() -> list[tuple[str, ...]]:
    """A row for Kedro, for MLflow, and for whatever else is amiss."""
    from importlib import metadata  # slower to import than all the rest

    rows: list[tuple[str, ...]] = []
    text = (PROJECT / "requirements.txt").read_text("utf-8")
    entry = r"^(\w[\w.-]*)(?:\[.*\])?[ \t]*([^;#@\n]*?)[ \t]*(?:#.*)?$"
    for package, ranges in re.findall(entry, text, re.MULTILINE):
        try:
            version = metadata.version(package)
            good = within(version, ranges)
            state = version if good else f"{version} is not {ranges}"
        except metadata.PackageNotFoundError:
            good, state = False, "not installed"
        if not good:
            rows.append(("note", package, state, INSTALL))
        elif package in ("kedro", "mlflow"):
            rows.append(("ok", package, state, ""))
    return rows


def conda_row() -> tuple[str, ...]:
    """Whether MLflow is told where conda is. By PATH it gets the wrong `activate`:

    under a virtual environment that one's own, and the project runs there unnoticed.
    """
    home, given = find_conda(), os.environ.get("MLFLOW_CONDA_HOME")
    exe = os.environ.get("CONDA_EXE") or ""
    if given and not home:
        remedy = f"unset MLFLOW_CONDA_HOME; {SOURCE}"
        return "note", "conda", f"none in MLFLOW_CONDA_HOME={given}", remedy
    if not home:
        return "-", "conda", "not found", ""
    if given or exe == f"{home}/bin/conda":
        return "ok", "conda", home, ""
    return "note", "conda", f"{home}, which MLflow is not told of", SOURCE


def config_rows() -> list[tuple[str, ...]]:
    """A row for each key that mlflow.yml does not know: kedro would refuse it."""
    rows: list[tuple[str, ...]] = []
    for file in sorted((PROJECT / "conf").glob("*/mlflow.yml")):
        for key in re.findall(
            r"""^["']?(\w+)["']?[ \t]*:""", file.read_text("utf-8-sig"), re.M
        ):
            if key not in SETTINGS:
                near = get_close_matches(key, SETTINGS, 1, 0.5) or [
                    " or ".join(SETTINGS)
                ]
                where = file.relative_to(PROJECT).as_posix()
                rows.append(
                    ("FAIL", "mlflow.yml", f"{where} has {key}", f"it is {near[0]}")
                )
    return rows


def git_row() -> tuple[str, ...]:
    """Whether a run can name the commit that made it: git itself is asked."""
    import subprocess  # takes as long as all else that is imported here

    if not which("git"):
        return "note", "git", "not found: runs will name no commit", "install git"
    commit = "git add . && git commit -m 'First commit'"
    if not any((folder / ".git").exists() for folder in (PROJECT, *PROJECT.parents)):
        problem, remedy = "no repository", f"git init && {commit}"
    else:
        command = ["git", "-C", str(PROJECT), "rev-parse", "--verify", "HEAD"]
        env = {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(command, capture_output=True, text=True, env=env)
        if done.returncode == 0:
            return "ok", "git", "the project is in a repository", ""
        said = " ".join(done.stderr.split()).removeprefix("fatal: ")
        problem, _, remedy = said.partition(" To add an exception for this directory, ")
        remedy = remedy.removeprefix("call: ")
        if "Needed a single revision" in said:
            problem, remedy = "no commit yet", commit
    return "note", "git", f"{problem}: runs will name no commit", remedy


def tracking_row(uri: str, offline: bool) -> tuple[str, ...]:
    """Whether runs can be recorded at an address: MLflow itself is asked.

    It alone knows about credentials, proxies and drivers. Of a database only a
    connection is opened, where MLflow would make its tables.
    """
    shown, row = mask(uri), "tracking"
    if is_folder(uri) and not os.environ.get("MLFLOW_ALLOW_FILE_STORE"):
        folder = re.sub("^file:(//)?", "", uri)
        move = f"mlflow migrate-filestore --source {quote(folder)} --target {DEFAULT}"
        return "FAIL", row, f"{shown} is a folder: MLflow wants a database", move
    if uri.startswith("sqlite:///"):
        return sqlite_row(PROJECT / uri[len("sqlite:///") :].split("?")[0])
    if offline or not uri.startswith(("http", *DATABASES)) or not find_spec("mlflow"):
        return "-", row, f"{shown}, not asked", ""
    os.environ.update(zip((*HTTP, "PGCONNECT_TIMEOUT"), "055", strict=True))
    try:
        if uri.startswith("http"):
            from mlflow import MlflowClient

            MlflowClient(uri).search_experiments(max_results=1)
        else:
            from sqlalchemy import create_engine

            create_engine(uri).connect().close()
    except Exception as error:
        said = mask(str(error).partition("\n")[0])
        refused = re.search("error code 40[13]|PERMISSION_DENIED|UNAUTHENTICATED", said)
        said = "does not answer" if "Max retries" in said else said
        return "FAIL", row, f"{shown}: {said:.150}", LOGIN if refused else OTHER
    return "ok", row, f"{shown} answers", ""


def is_folder(uri: str) -> bool:
    """Whether an address is a folder: a path, or one that begins with file:."""
    return uri.startswith("file:") or (":" not in uri and uri != "databricks")


def sqlite_row(store: Path) -> tuple[str, ...]:
    """Whether MLflow can make or use a SQLite file."""
    row, folder, file = "tracking", quote(str(store.parent)), quote(str(store))
    if not os.access(store.parent, os.W_OK):
        make = f"mkdir -p {folder} && chmod u+w {folder}"
        return "FAIL", row, f"cannot write in {store.parent}", make
    if not store.exists():
        return "ok", row, f"{store}, will be created", ""
    query = (
        "SELECT (SELECT version_num FROM alembic_version),"
        " (SELECT value FROM experiment_tags WHERE key = 'project.folder'),"
        " (SELECT count(*) FROM runs)"
    )
    try:
        address = f"{store.as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=0.2)) as db:
            tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master")]
            whole = {"alembic_version", "experiment_tags", "runs"} <= set(tables)
            schema, old, runs = db.execute(query).fetchone() if whole else ("", "", 0)
    except sqlite3.OperationalError as error:
        return "note", row, f"{store}: {error}", "close what has it open"
    except sqlite3.DatabaseError:
        return "FAIL", row, f"{store} is not a database", f"mv {file} {file}.broken"
    steps = [upgrade(schema, file)] if tables else []
    for left in filter(re.compile("_alembic_tmp_").match, tables):
        drop = f"db.connect({str(store)!r}).execute('DROP TABLE {left}')"
        steps.insert(0, f"python -c {quote(f'import sqlite3 as db; {drop}')}")
    remedy = " && ".join(filter(None, steps))
    if remedy and not runs:
        return "FAIL", row, f"{store} is half made, no runs", f"mv {file} {file}.broken"
    if remedy:
        return "FAIL", row, f"{store} does not fit this MLflow version", remedy
    if old and old != str(PROJECT) and PROJECT in store.parents:
        return "note", row, f"{store} was made in {old}", "kedro run (sets it right)"
    return "ok", row, str(store), ""


def upgrade(schema: str, file: str) -> str:
    """The command for a schema that is not the installed MLflow's, else nothing."""
    spec = find_spec("mlflow")
    home = Path(*(spec.submodule_search_locations or ())) if spec else PROJECT
    scripts = (home / "store/db_migrations/versions").glob("*_*.py")
    text = "\n".join(["", *(script.read_text("utf-8") for script in scripts)])
    if spec and f'\nrevision = "{schema}"' not in text:
        return "pip install --upgrade mlflow"
    older = f'down_revision = "{schema}"' in text
    return f"mlflow db upgrade sqlite:///{file}" if older else ""


def main() -> int:
    """Prints the table and the next commands; 1 if something cannot work."""
    if "--exports" in sys.argv:
        exported = exports()
        for name, value in exported.items():
            escaped = value.replace("'", r"'\''")
            # Not `quote`, which leaves `=ls` bare: zsh would look for a command `ls`.
            print(f"export {name}='{escaped}'")
        print("config.sh:", summary(exported), file=sys.stderr)
        return 0
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    python = sys.version.split()[0]
    if sys.version_info[:2] < OLDEST_PYTHON:
        print(f"FAIL Python {python} is too old: take 3.10 or newer, then try again")
        return 1
    uri = os.environ.get("MLFLOW_TRACKING_URI") or configured_uri()
    rows = [
        ("ok", "Python", f"{python} in {sys.prefix}", ""),
        *package_rows(),
        conda_row(),
        *(("ok" if which(t) else "-", t, which(t) or "not found", "") for t in TOOLS),
        git_row(),
        *config_rows(),
        tracking_row(uri, "--offline" in sys.argv),
    ]
    tool = max(len(row[1]) for row in rows)
    state = max((len(row[2]) for row in rows if row[3]), default=0)
    for level, name, found, remedy in rows:
        print(f"{level:4} {name:{tool}}  {found:{state}}  {remedy}".rstrip())
    steps = [INSTALL] if any(row[3] == INSTALL for row in rows) else []
    folder = Path(sys.executable).parent
    if Path(which("python") or which("python3") or "").parent != folder:
        steps.insert(0, f'export PATH={quote(str(folder))}:"$PATH"')
    source = "" if os.name == "nt" else f"{SOURCE} && "
    steps += ["kedro run", f"{source}{mlflow_run()}"]
    print("\nNext:", *steps, sep="\n  ")
    return int(any(row[0] == "FAIL" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
