"""Tells what this machine has for running the project, and how to get the rest.

python check.py            a line for each tool, then the commands that run the project
python check.py --offline  the same at once: mlflow.yml and the store are not checked
python check.py --exports  what `source config.sh` has your shell evaluate

It needs `yaml` and `packaging`, which Kedro and MLflow bring. Without them, it only
says what to install. The tracking store is checked once Kedro and MLflow are installed.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path
from shlex import quote
from shutil import which
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parent
WINDOWS = os.name == "nt"  # its shells know neither `source` nor `export`
OLDEST_PYTHON = (3, 10)
# MLflow waits 0, 4, 8, 16, 32 seconds: a server may restart, and a dead one is given up
# after a minute. KEDRO_<name> is exported with the same value, which marks it as ours:
# see tracking/environment.py.
HTTP = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
UV = "" if find_spec("pip") or not which("uv") else "uv "
INSTALL = f"{UV}pip install -r requirements.txt"
SOURCE = "source config.sh"


class Row(NamedTuple):
    """A line of the table."""

    level: str  # ok, note, FAIL, or - for what is not there
    tool: str
    state: str
    remedy: str = ""


def mask(text: str) -> str:
    """Replace the user names, passwords and tokens of addresses by ***."""
    secret = r"[^=&]*(?:user|uid|pass|pwd|token|secret|key|auth|odbc)[^=&]*"
    text = re.sub(rf"(?is)([?&]{secret}=)[^&]*", r"\1***", text)
    return re.sub(r"(?s)://.*@", "://***@", text)


def read_settings(env: str) -> dict[str, object]:
    """Return what the mlflow.yml of an environment says."""
    import yaml

    file = PROJECT / "conf" / env / "mlflow.yml"
    try:
        text = file.read_text("utf-8-sig") if file.is_file() else ""
        content = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeError) as error:
        sys.exit(f"{file} cannot be read: {' '.join(str(error).split())}")
    return content if isinstance(content, dict) else {}


def setting(key: str) -> str:
    """Return a value of mlflow.yml: the environment's, else base's, else ""."""
    env = os.environ.get("KEDRO_ENV") or "local"
    value = {**read_settings("base"), **read_settings(env)}.get(key)
    return "" if value is None else str(value)


def configured_uri() -> str:
    """Return where mlflow.yml records; relative SQLite paths start at the project."""
    uri = setting("tracking_uri") or "sqlite:///mlflow.db"
    file = re.fullmatch(r"sqlite:///([^/].*)", uri)
    return f"sqlite:///{(PROJECT / file[1]).as_posix()}" if file else uri


def is_conda(home: str | Path) -> bool:
    """Return whether a folder has the two files of conda that MLflow uses."""
    files = "bin/conda", "etc/profile.d/conda.sh"
    return bool(home) and all(Path(home, file).is_file() for file in files)


@lru_cache
def find_conda() -> str:
    """Return conda's folder, "" without one: from a variable, from PATH, or asked."""
    if home := os.environ.get("MLFLOW_CONDA_HOME"):
        return home if is_conda(home) else ""
    found = which("conda")
    exes = [Path(exe) for exe in (os.environ.get("CONDA_EXE"), found) if exe]
    homes = [str(path.parent.parent) for exe in exes for path in (exe, exe.resolve())]
    if found and not any(map(is_conda, homes)):
        import subprocess  # slow; only a wrapper, such as pyenv's, has to be asked

        ask = [found, "info", "--base"]
        homes = [subprocess.run(ask, capture_output=True, text=True).stdout.strip()]
    return next(filter(is_conda, homes), "")


def mlflow_run() -> str:
    """Return the `mlflow run` for the best tool that makes environments here."""
    other = "uv" if which("uv") else "virtualenv" if which("pyenv") else "local"
    return "mlflow run ." + ("" if find_conda() else f" --env-manager {other}")


def exports() -> dict[str, str]:
    """Return the variables that config.sh exports: those the user has not set."""
    given = os.environ.get
    uri = given("MLFLOW_TRACKING_URI") or configured_uri()
    database = uri.startswith(("sqlite", "postgresql", "mysql", "mssql"))
    here = PROJECT.as_posix()
    inside = uri.startswith(f"sqlite:///{here}/")
    # `mlflow run` refuses a name next to an id.
    by_id = given("MLFLOW_EXPERIMENT_ID") or given("MLFLOW_RUN_ID")
    variables = {
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_EXPERIMENT_NAME": "" if by_id else setting("experiment_name"),
        "MLFLOW_BACKEND_STORE_URI": uri if database else "",
        # Experiments made in `mlflow ui` would go where only a server's clients write.
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": f"{here}/mlruns" if inside else "",
        "MLFLOW_CONDA_HOME": find_conda(),
        # MLflow prints the address of a run's page with all that is in it.
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": (
            "true" if uri.startswith("http") and "@" in uri else ""
        ),
        **HTTP,
        **{f"KEDRO_{name}": HTTP[name] for name in HTTP if not given(name)},
    }
    # An expression is left to Kedro, which alone can work it out.
    return {k: v for k, v in variables.items() if v and not given(k) and "${" not in v}


def summary(exported: dict[str, str]) -> str:
    """Return what config.sh says: where runs go, and how environments are made."""
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


def package_rows() -> list[Row]:
    """Return a row for Kedro, one for MLflow, and one for each package amiss."""
    from importlib import metadata  # slow, and not needed by config.sh

    from packaging.requirements import InvalidRequirement, Requirement

    rows = []
    for line in (PROJECT / "requirements.txt").read_text("utf-8").splitlines():
        text = re.sub(r"(^|\s)#.*", "", line)
        try:
            wanted = Requirement(text)
        except InvalidRequirement:  # a comment, or an option of pip
            continue
        if wanted.marker and not wanted.marker.evaluate():
            continue
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            rows.append(Row("note", wanted.name, "not installed", INSTALL))
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            asked = re.sub(r"^[^<>=!~]*", "", text.partition(";")[0]).strip()
            rows.append(Row("note", wanted.name, f"{version} is not {asked}", INSTALL))
        elif wanted.name in ("kedro", "mlflow"):
            rows.append(Row("ok", wanted.name, version))
    return rows


def conda_row() -> Row:
    """Return whether MLflow is told where conda is.

    If it is not, it finds the `activate` of a virtual environment that is active, and
    the project runs there unnoticed.
    """
    home, given = find_conda(), os.environ.get("MLFLOW_CONDA_HOME")
    if given and not home:
        remedy = f"unset MLFLOW_CONDA_HOME; {SOURCE}"
        return Row("note", "conda", f"none in MLFLOW_CONDA_HOME={given}", remedy)
    if not home:
        return Row("-", "conda", "not found")
    if given or os.environ.get("CONDA_EXE") == f"{home}/bin/conda":
        return Row("ok", "conda", home)
    return Row("note", "conda", f"{home}, which MLflow is not told of", SOURCE)


def tool_row(tool: str) -> Row:
    """Return whether a tool that makes environments is here; it need not be."""
    path = which(tool)
    return Row("ok" if path else "-", tool, path or "not found")


def git_row() -> Row:
    """Return whether a run can name the commit that made it."""
    import subprocess  # slow, and not needed by config.sh

    if not which("git"):
        return Row("note", "git", "not found: runs will name no commit", "install git")
    command = ["git", "-C", str(PROJECT), "rev-parse", "--verify", "HEAD"]
    env = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode == 0:
        return Row("ok", "git", "the project is in a repository")
    commit = "git add . && git commit -m 'First commit'"
    said = " ".join(done.stderr.split()).removeprefix("fatal: ")
    if said.startswith("not a git repository"):
        problem, remedy = "no repository", f"git init && {commit}"
    elif "Needed a single revision" in said:
        problem, remedy = "no commit yet", commit
    else:
        problem, _, remedy = said.partition(" To add an exception for this directory, ")
        remedy = remedy.removeprefix("call: ")
    return Row("note", "git", f"{problem}: runs will name no commit", remedy)


def tracking_rows(uri: str) -> list[Row]:
    """Return what `kedro run` would say of mlflow.yml and of the tracking store."""
    os.chdir(PROJECT)  # Kedro reads conf/logging.yml of the current directory
    sys.path.insert(0, str(PROJECT / "src"))
    from {{ cookiecutter.python_package }}.tracking import store_check

    rows = []
    for env in sorted(os.listdir(PROJECT / "conf")):
        for refused in store_check.refused_settings(read_settings(env)):
            rows.append(Row("FAIL", "mlflow.yml", f"conf/{env}: {refused}"))
    found = store_check.check_store(uri, PROJECT, mask(uri))
    return [*rows, Row(found.level, "tracking", found.state, found.remedy)]


def print_exports() -> None:
    """Print what config.sh evaluates, and its one line on standard error."""
    exported = exports()
    for name, value in exported.items():
        escaped = value.replace("'", r"'\''")
        # Not `quote`, which leaves `=ls` bare: zsh would look for a command `ls`.
        print(f"export {name}='{escaped}'")
    print("config.sh:", summary(exported), file=sys.stderr)


def print_table(rows: list[Row]) -> None:
    """Print the rows, then the commands that run the project."""
    tool = max(len(row.tool) for row in rows)
    state = max((len(row.state) for row in rows if row.remedy), default=0)
    for row in rows:
        line = f"{row.level:4} {row.tool:{tool}}  {row.state:{state}}  {row.remedy}"
        print(line.rstrip())
    steps = [INSTALL] if any(row.remedy == INSTALL for row in rows) else []
    folder = Path(sys.executable).parent
    if Path(which("python") or which("python3") or "").parent != folder:
        line = f'export PATH={quote(str(folder))}:"$PATH"'
        steps.insert(0, f'$env:PATH = "{folder};$env:PATH"' if WINDOWS else line)
    source = "" if WINDOWS else f"{SOURCE} && "
    print("\nNext:", *steps, "kedro run", f"{source}{mlflow_run()}", sep="\n  ")


def main() -> int:
    """Print what the arguments ask for; return 1 if something cannot work."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    python = sys.version.split()[0]
    if sys.version_info[:2] < OLDEST_PYTHON:
        print(f"FAIL Python {python} is too old: take 3.10 or newer, then try again")
        return 1
    ready = find_spec("yaml") and find_spec("packaging")
    if "--exports" in sys.argv:
        if not ready:
            sys.exit(f"config.sh: nothing is installed for {sys.executable}: {INSTALL}")
        print_exports()
        return 0
    if not ready:
        print(f"note packages  not installed  {INSTALL}")
        print("\nNext:", INSTALL, "python check.py", sep="\n  ")
        return 0
    uri = os.environ.get("MLFLOW_TRACKING_URI") or configured_uri()
    store_rows = [Row("-", "tracking", f"{mask(uri)}, not asked")]
    if "--offline" not in sys.argv and find_spec("mlflow"):
        with suppress(ImportError):  # Kedro is missing or too old
            store_rows = tracking_rows(uri)
    rows = [Row("ok", "Python", f"{python} in {sys.prefix}"), *package_rows()]
    rows += [conda_row(), tool_row("uv"), tool_row("pyenv"), git_row(), *store_rows]
    print_table(rows)
    return int(any(row.level == "FAIL" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
