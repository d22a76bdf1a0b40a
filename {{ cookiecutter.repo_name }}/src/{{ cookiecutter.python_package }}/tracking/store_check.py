"""Can runs be recorded at an address? ``check.py`` of a project asks before a run.

Nothing is changed: of a database, only a connection is opened.
"""

import os
import re
import sqlite3
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

from click import ClickException

from . import client, config, database, redact

ASK_ONCE = client.http_policy(retries=0, timeout=5)
LOGIN = "export MLFLOW_TRACKING_USERNAME=... MLFLOW_TRACKING_PASSWORD=... (or _TOKEN)"
OTHER = "start or repair it, or choose another MLFLOW_TRACKING_URI"
TABLES = {"alembic_version", "experiment_tags", "runs"}
STATE_SQL = """
SELECT (SELECT version_num FROM alembic_version),
    (SELECT value FROM experiment_tags WHERE key = 'project.folder'),
    (SELECT count(*) FROM runs)
"""


class Finding(NamedTuple):
    """What was found at an address."""

    level: str  # ok, note, FAIL, or - for what was not asked
    state: str
    remedy: str = ""


def refused_settings(settings: dict[str, Any]) -> list[str]:
    """Return what ``kedro run`` says of each line of mlflow.yml that it refuses."""
    refused = []
    for key, value in settings.items():
        try:
            config.check_config({key: None if "${" in str(value) else value})
        except ClickException as error:
            refused.append(error.message)
    return refused


def check_store(uri: str, project: Path, shown: str) -> Finding:
    """Return whether runs can be recorded at an address.

    Messages have the address as ``shown``: without secrets.
    """
    path = ":" not in uri and uri != "databricks"
    folder = path or re.match(r"file:|[A-Za-z]:[\\/]", uri)
    if folder and not os.environ.get("MLFLOW_ALLOW_FILE_STORE"):
        source = quote(re.sub("^file:(//)?", "", uri))
        move = f"mlflow migrate-filestore --source {source} --target"
        state = f"{shown} is a folder: MLflow wants a database"
        return Finding("FAIL", state, f"{move} sqlite:///mlflow.db")
    if file := database.sqlite_file(uri):
        return check_file(project / file, project)
    if not uri.startswith(("http", *database.DATABASES)):
        return Finding("-", f"{shown}, not asked")
    return ask_server(uri, project, shown)


def ask_server(uri: str, project: Path, shown: str) -> Finding:
    """Ask as a run would, for MLflow knows about credentials, proxies and drivers."""
    from mlflow import MlflowClient

    try:
        config.configure({"tracking_uri": uri}, project)
        if uri.startswith("http"):
            with client.http_timeouts(ASK_ONCE, override=True):
                MlflowClient().search_experiments(max_results=1)
        else:
            with database.database_lock(uri):
                pass
    except Exception as error:
        said = redact.first_line(error)
        remedy = LOGIN if re.search(client.REFUSED, said) else OTHER
        said = "does not answer" if "Max retries" in said else said
        return Finding("FAIL", f"{shown}: {said:.150}", remedy)
    return Finding("ok", f"{shown} answers")


def check_file(file: Path, project: Path) -> Finding:
    """Return whether MLflow can create or use a SQLite file."""
    folder, path = quote(str(file.parent)), quote(str(file))
    aside = f"mv {path} {path}.broken"
    if not os.access(file.parent, os.W_OK):
        make = f"mkdir -p {folder} && chmod u+w {folder}"
        return Finding("FAIL", f"cannot write in {file.parent}", make)
    if not file.exists():
        return Finding("ok", f"{file}, will be created")
    try:
        tables, schema, made_in, runs = read_state(file)
    except sqlite3.OperationalError as error:
        return Finding("note", f"{file}: {error}", "close what has it open")
    except sqlite3.DatabaseError:
        return Finding("FAIL", f"{file} is not a database", aside)
    remedy = " && ".join(repair_steps(file, tables, schema))
    if remedy and not runs:
        return Finding("FAIL", f"{file} is half made, no runs", aside)
    if remedy:
        return Finding("FAIL", f"{file} does not fit this MLflow version", remedy)
    if made_in and made_in != str(project) and project in file.parents:
        state = f"{file} was made in {made_in}"
        return Finding("note", state, "kedro run (sets it right)")
    return Finding("ok", str(file))


def read_state(file: Path) -> tuple[list[str], str, str | None, int]:
    """Return a file's tables, their version, the project's folder, the number of runs.

    The last three are empty if MLflow has not made all tables.
    """
    address = f"{file.as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=0.2)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master")]
        if not set(tables) >= TABLES:
            return tables, "", None, 0
        schema, made_in, runs = db.execute(STATE_SQL).fetchone()
        return tables, schema, made_in, runs


def repair_steps(file: Path, tables: list[str], schema: str) -> list[str]:
    """Return the commands that fit a file to the installed MLflow."""
    steps = []
    for left in tables:
        if left.startswith("_alembic_tmp_"):  # of an upgrade that broke off
            drop = f"db.connect({str(file)!r}).execute('DROP TABLE {left}')"
            steps.append(f"python -c {quote(f'import sqlite3 as db; {drop}')}")
    upgrade = upgrade_command(schema, quote(str(file))) if tables else ""
    return [*steps, upgrade] if upgrade else steps


def upgrade_command(schema: str, file: str) -> str:
    """Return the command for a schema that is not the installed MLflow's, else ""."""
    spec = find_spec("mlflow")  # to import its migrations would take seconds
    home = Path(spec.origin).parent if spec and spec.origin else Path()
    scripts = (home / "store/db_migrations/versions").glob("*_*.py")
    text = "\n".join(["", *(script.read_text("utf-8") for script in scripts)])
    if f'\nrevision = "{schema}"' not in text:
        return "pip install --upgrade mlflow"
    older = f'down_revision = "{schema}"' in text
    return f"mlflow db upgrade sqlite:///{file}" if older else ""
