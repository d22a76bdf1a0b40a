"""Logs the files that catalog entries name as artifacts: ``metadata: mlflow:``.

Files of this machine, folders of partitions, and what fsspec reads elsewhere.
"""

import difflib
import logging
import posixpath
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
from fsspec.implementations.local import LocalFileSystem
from kedro.io.core import HTTP_PROTOCOLS, get_protocol_and_path

from . import catalog_files, redact

KEYS = ("artifact_path", "max_mb")

logger = logging.getLogger(__name__)


class Artifact(NamedTuple):
    """A file or folder that a catalog entry wants logged."""

    name: str
    config: dict[str, Any]
    address: str  # of a file or folder
    since: datetime | None  # older files in a folder are left out
    needed: bool  # whether it has to be there


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a catalog entry's ``metadata: mlflow:``."""
    found = (config.get("metadata") or {}).get("mlflow")
    return found if isinstance(found, dict) else {}


def warn_of_unknown_settings(pipeline: Any, catalog: Any) -> None:
    """Warn of unknown settings below ``metadata: mlflow:`` in the catalog."""
    names = {*catalog_files.external_inputs(pipeline), *pipeline.all_outputs()}
    for name in sorted(names):
        config = catalog_files.catalog_entry(name, catalog)
        given = (config.get("metadata") or {}).get("mlflow")
        if given and not isinstance(given, dict):
            logger.warning("%s: metadata: mlflow: has no settings: %s", name, given)
        settings = settings_of(config)
        for key in settings.keys() - set(KEYS):
            near = difflib.get_close_matches(str(key), KEYS, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(KEYS)}."
            logger.warning(
                "%s: metadata: mlflow: %s: means nothing; %s", name, key, hint
            )
        most = settings.get("max_mb", 0)
        if not isinstance(most, (int, float)):
            logger.warning("%s: metadata: mlflow: max_mb: %r is no number", name, most)


def requested(
    inputs: catalog_files.DataFiles,
    saved: catalog_files.DataFiles,
    pipeline: Any,
    catalog: Any,
    *,
    kedro_id: str,
    started: datetime,
    complete: bool,
) -> Iterator[Artifact]:
    """Yield the artifacts that the catalog wants logged, of what was read and saved.

    Files in a folder that are older than ``started`` are left out. The run is
    ``complete`` if all nodes have run, so that all files have to be there.
    """
    for name in (*inputs, *sorted(pipeline.all_outputs())):
        config = catalog_files.catalog_entry(name, catalog)
        if settings_of(config).get("artifact_path") is None:
            continue
        read = name in inputs
        local = catalog_files.local_path(config)
        if file := (inputs if read else saved).get(name):
            yield Artifact(name, config, str(file.path), None, True)
        elif read or complete or not local or local.is_dir():
            address = catalog_files.data_address(config)
            if address and config.get("versioned"):
                dataset = catalog_files.inner_dataset(name, catalog)
                version = dataset.resolve_load_version() if read else kedro_id
                address = posixpath.join(address, version, posixpath.basename(address))
            yield Artifact(name, config, address, None if read else started, complete)


def log(run_id: str, artifact: Artifact) -> None:
    """Log the files of an artifact; secrets in settings files are hidden.

    Raises:
        LookupError: There is no file.
    """
    from mlflow import MlflowClient

    settings = settings_of(artifact.config)
    if not artifact.address:
        if artifact.needed:
            raise LookupError(f"a {artifact.config.get('type')} has no file to log")
        return
    system, root = file_system(artifact)
    found = files_of(system, root, artifact)
    if not found and artifact.needed:
        raise LookupError(f"no file at {artifact.address}")
    megabytes = sum(system.size(path) or 0 for path in found) / 1e6
    if megabytes > settings.get("max_mb", float("inf")):
        name = posixpath.basename(artifact.address)
        logger.info("%s is over max_mb: not logged as an artifact", name)
        return
    above = posixpath.dirname(root.rstrip("/"))
    for path in found:
        inside = posixpath.dirname(posixpath.relpath(path, above))
        folder = f"{settings['artifact_path']}/{inside}".strip("/")
        with tempfile.TemporaryDirectory() as place:
            local = without_secrets(fetched(system, path, Path(place)), Path(place))
            MlflowClient().log_artifact(run_id, str(local), folder or None)


def file_system(artifact: Artifact) -> tuple[Any, str]:
    """Return fsspec's file system of an artifact, and the path in it."""
    given = (artifact.config.get(key) or {} for key in ("credentials", "fs_args"))
    options = {key: value for part in given for key, value in part.items()}
    options = {k: v for k, v in options.items() if not k.startswith("open_args")}
    protocol, root = get_protocol_and_path(artifact.address)
    system = fsspec.filesystem(protocol, **options)
    if "filepath" not in artifact.config or protocol in HTTP_PROTOCOLS:
        root = system._strip_protocol(artifact.address)
    system.invalidate_cache()
    return system, root


def files_of(system: Any, root: str, artifact: Artifact) -> list[str]:
    """Return the files of an artifact; in a folder, those that the run has written.

    Hidden files and folders in a folder are left out.
    """
    if system.isfile(root):
        wanted = artifact.needed or is_new(system, root, artifact.since)
        return [root] if wanted else []
    found = system.find(root) if system.isdir(root) else []
    shown = [path for path in found if "/." not in f"/{posixpath.relpath(path, root)}"]
    return [path for path in shown if is_new(system, path, artifact.since)]


def is_new(system: Any, path: str, since: datetime | None) -> bool:
    """Tell whether a file was written after a time; False where nobody knows."""
    if not since:
        return True
    try:
        modified = system.modified(path)
    except NotImplementedError:
        return False
    return modified.replace(tzinfo=modified.tzinfo or timezone.utc) >= since


def fetched(system: Any, path: str, place: Path) -> Path:
    """Return a local file, or a downloaded copy of a remote one."""
    if isinstance(system, LocalFileSystem):
        return Path(path)
    system.get_file(path, str(copy := place / posixpath.basename(path)))
    return copy


def without_secrets(file: Path, place: Path) -> Path:
    """Return a file; of a settings file with secrets, a copy without them."""
    if not redact.is_settings(file.name) or file.stat().st_size > redact.MAX_BYTES:
        return file
    text = file.read_text("utf-8", "surrogateescape")
    if (hidden := redact.file(file.as_posix(), text)) == text:
        return file
    logger.info("%s is logged without the secrets in it.", file.name)
    copy = place / file.name
    copy.write_text(hidden, "utf-8", "surrogateescape")
    return copy
