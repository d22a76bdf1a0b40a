"""``kedro share`` and ``kedro receive``: a run goes to a colleague, or to a server.

A file may come from anywhere: whatever is wrong with it is found before anything of it
is used. A model in it is code, for MLflow reads from the model's own description which
flavour, which code and which types to load. So only scikit-learn in skops with types
that skops trusts is taken as it is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import tempfile
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from .. import database, datasets, redact, registry
from . import project_runs
from .project_runs import CommandError

RECORD_FILE, FORMAT = "record.json", 1
SMALL_BYTES, MAX_RATIO = 100_000_000, 100  # bytes unpacked, or times the packed ones
MAX_MLMODEL_BYTES = 5_000_000  # bytes, of a model's description
MODEL_FILE = "model.skops"
# What a model may ask for, by flavour; what it may say besides leads to no code.
ALLOWED_FLAVOURS: dict[str, dict[str, tuple]] = {
    "python_function": {
        **{"loader_module": ("mlflow.sklearn",), "model_path": (MODEL_FILE,)},
        "predict_fn": ("predict", "predict_proba", "predict_log_proba"),
    },
    "sklearn": {"pickled_model": (MODEL_FILE,), "serialization_format": ("skops",)},
}
HARMLESS_KEYS = {"env", "python_version", "sklearn_version"}
# Parts that mean the same on every system, and lead nowhere else.
PATH = re.compile(
    r"(?!/|$|[A-Za-z]:)(?:(?:^|/)[^/\\\x00-\x1f\x7f\ud800-\udfff]*(?<![/. ]))+"
)


def import_run(found: Any, folder: Path, experiment: str) -> str:
    """Write a run into the store unless it is there; return its id."""
    from mlflow import MlflowClient

    from . import record

    uri, client = os.environ["MLFLOW_TRACKING_URI"], MlflowClient()
    made = record.by_key(found.run.data.tags)[project_runs.SOURCE_RUN_TAG]
    with database.database_lock(uri):
        left = client.search_runs(
            [experiment], f"tags.`{project_runs.INCOMPLETE_TAG}` = '{made}'"
        )
        record.delete_runs(left, experiment)
        same = (
            f"tags.`{project_runs.SOURCE_RUN_TAG}` = '{made}'",
            f"attributes.run_id = '{made}'",
        )
        here = [
            run for query in same for run in client.search_runs([experiment], query)
        ]
        said = "already is" if here else "is now"
        run_id = (
            here[0].info.run_id
            if here
            else record.write_record(found, folder, experiment)
        )
    click.echo(f"Run {made} {said} run {run_id} at {redact.mask(uri)}.")
    return run_id


def untrusted_features(file: Path) -> Iterator[str]:
    """Yield what a model needs beyond scikit-learn in the skops format."""
    import skops.io
    import yaml

    text, model = file.read_text("utf-8"), file.parent / MODEL_FILE
    aliases = (isinstance(event, yaml.AliasEvent) for event in yaml.parse(text))
    if len(text) > MAX_MLMODEL_BYTES or any(aliases):
        raise ValueError(f"{file.name} is too large, or refers to itself")
    flavours = {"sklearn": {}} | yaml.safe_load(text)["flavors"]
    yield from (
        f"the flavour {name}" for name in flavours if name not in ALLOWED_FLAVOURS
    )
    for name in flavours.keys() & ALLOWED_FLAVOURS.keys():
        allowed, said = ALLOWED_FLAVOURS[name], flavours[name]
        for key in sorted((allowed.keys() | said.keys()) - HARMLESS_KEYS):
            if said.get(key) not in allowed.get(key, (None, [])):
                yield f"{key} = {said.get(key)} in its flavour {name}"
    if not model.is_file():
        yield f"another file than {MODEL_FILE}"
        return
    with zipfile.ZipFile(model) as archive:
        check_entries(archive, model)
    yield from (f"the type {name}" for name in skops.io.get_untrusted_types(file=model))


@click.command()
@click.argument("run_id")
@click.option("--output", "-o", type=click.Path(dir_okay=False), help="One zip file.")
@click.option("--to", metavar="URI", help="Another store, such as http://host:5000.")
@click.option("--with-user", is_flag=True, help="Name the user who made the run.")
@project_runs.env_option
@click.pass_obj
def share(metadata: Any, run_id: str, output, to, with_user, env) -> None:
    """Write everything of a run to a file, or straight into another store.

    Parameters, metrics with their histories, tags, datasets, artifacts, models, child
    runs and the tags of registered versions. Credentials, the folders of this machine
    and the user's name stay here.
    """
    if bool(output) == bool(to):
        raise click.UsageError("Give either -o FILE or --to URI.")
    project = Path(metadata.project_path)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with project_runs.project_store(project, env) as experiment:
            from . import record

            about = record.read_record(
                project_runs.resolve_run(run_id, experiment), folder, project, with_user
            )
            found = record.parse_record(about)  # as a receiver will
            if output:
                pack(about, folder, Path(output))
                click.echo(f"Run {run_id} is in {output}.")
                return
        # As if the caller had set it, and none of what belongs to our own store.
        for variable in ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
            os.environ.pop(variable, None)
        os.environ["MLFLOW_TRACKING_URI"] = to
        title = {
            "experiment_name": record.by_key(found.run.data.tags)[
                project_runs.SOURCE_EXPERIMENT_TAG
            ]
        }
        with project_runs.project_store(project, env, title) as experiment:
            import_run(found, folder, experiment)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--register", is_flag=True, help="Register its models, as they were.")
@click.option("--trust", is_flag=True, help="Take models that ask for other code.")
@project_runs.env_option
@click.pass_obj
def receive(metadata: Any, file: str, register: bool, trust: bool, env) -> None:
    """Record the run of a file that `kedro share` has written.

    A file that is damaged, or made to do harm, is refused before anything is written.
    A run that is here already is not recorded again.
    """
    with tempfile.TemporaryDirectory() as name:
        found = unpack(Path(file), Path(name), trust=trust)
        with project_runs.project_store(metadata.project_path, env, {}) as experiment:
            run_id = import_run(found, Path(name), experiment)
            if register:
                register_models(run_id)


def register_models(run_id: str) -> None:
    """Register the models of a received run under the names that they had."""
    from mlflow import MlflowClient

    client = MlflowClient()
    run: Any = client.get_run(run_id)
    for output in run.outputs.model_outputs:
        model = client.get_logged_model(output.model_id)
        for version in json.loads(
            model.tags.get(project_runs.SOURCE_VERSIONS_TAG, "[]")
        ):
            name, known = version["name"], registry.latest_versions(version["name"])
            number = registry.version_of(model, name, known)
            if not number:  # what their registry decided is no decision of ours
                tags = version["tags"].items()
                tags = {re.sub("^registry", "origin", key): v for key, v in tags}
                number = registry.register_version(model, name, tags, new=not known)
            click.echo(f"Its {model.name} is models:/{name}/{number}.")


def pack(about: dict[str, Any], folder: Path, file: Path) -> None:
    """Write a record and its artifacts as a zip file."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    if odd := [name for name in names if not PATH.fullmatch(name)]:
        raise CommandError(f"{odd[0]!r} is no path on every system.")
    files = {name: datasets.file_digest(path, "sha256") for name, path in names.items()}
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            listed = {"format": FORMAT, "record": about, "files": files}
            archive.writestr(RECORD_FILE, json.dumps(listed))
            for name, path in names.items():
                archive.write(path, name)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def unpack(file: Path, folder: Path, *, trust: bool = False) -> Any:
    """Check a zip file from anybody, unpack it, and return its record.

    Raises:
        CommandError: Something is wrong, or a model asks for what needs ``trust``.
    """
    from . import record

    try:
        with zipfile.ZipFile(file) as archive:
            names = check_entries(archive, file)
            about = json.loads(archive.read(RECORD_FILE))
            if about["format"] != FORMAT:
                raise ValueError("another version of `kedro share` has made it")
            found = record.parse_record(about["record"])
            if odd := {RECORD_FILE, *about["files"]} ^ names:
                raise ValueError(f"{min(odd)!r} is not listed, or missing")
            for name, digest in about["files"].items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source, (folder / name).open("xb") as copy:
                    shutil.copyfileobj(source, copy)
                if datasets.file_digest(folder / name, "sha256") != digest:
                    raise ValueError(f"{name!r} has another checksum")
        described = [p for p in folder.rglob("*") if p.name.lower() == "mlmodel"]
        wanted = [
            ask for path in described if not trust for ask in untrusted_features(path)
        ]
    except Exception as error:  # whatever a made-up file makes of its readers
        raise CommandError(f"{file} is refused: {redact.first_line(error)}") from error
    if wanted:
        raise CommandError(
            f"{file} is refused: a model in it asks for {'; '.join(wanted)[:500]} -- "
            "with --trust it is taken all the same, and may do anything that you may"
        )
    return found


def check_entries(archive: zipfile.ZipFile, file: Path) -> set[str]:
    """Return the names in a zip file; refuse links, odd paths and zip bombs."""
    entries, packed = archive.infolist(), file.stat().st_size
    names = {entry.orig_filename for entry in entries}
    if len(names) < len(entries):
        raise ValueError("a name is there twice")
    for entry in entries:
        if not PATH.fullmatch(entry.orig_filename):
            raise ValueError(f"{entry.orig_filename!r} is no path within a folder")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            raise ValueError(f"{entry.filename!r} is a link, or no plain file")
    if (size := sum(e.file_size for e in entries)) > max(
        SMALL_BYTES, MAX_RATIO * packed
    ):
        raise ValueError(f"it would unpack to {size / packed:.0f} times its size")
    return names
