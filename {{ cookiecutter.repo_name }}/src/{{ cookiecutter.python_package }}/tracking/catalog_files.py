"""Kedro's catalog: the files, folders and versions behind its datasets."""

import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kedro.io import AbstractVersionedDataset, CachedDataset, DatasetError, Version
from kedro.pipeline import Pipeline
from kedro.runner import SequentialRunner

from . import file_notes


class DataFile(NamedTuple):
    """A dataset's local file."""

    path: Path
    versioned: bool
    digest: str = ""  # MD5 of an input
    signature: file_notes.Signature | None = None  # when it was digested


DataFiles = Mapping[str, DataFile | None]  # by dataset; None for other data


def catalog_entry(name: str, catalog: Any) -> dict[str, Any]:
    """Return a catalog entry; for a cached dataset, the entry within."""
    config = catalog.config_resolver.resolve_pattern(name)
    while isinstance(inner := config.get("dataset"), dict) and not data_address(config):
        outer = {k: config[k] for k in ("versioned", "metadata") if config.get(k)}
        config = {**inner, **outer}
    return config


def inner_dataset(name: str, catalog: Any) -> Any:
    """Return a dataset; for a cached dataset, the one within."""
    found = catalog.get(name)
    return found._dataset if isinstance(found, CachedDataset) else found


def data_address(config: dict[str, Any]) -> str:
    """Return the address of a catalog entry's data; empty if it has none."""
    return str(config.get("filepath") or config.get("path") or "")


def local_path(config: dict[str, Any]) -> Path | None:
    """Return the path of a catalog entry if it is a local file or folder."""
    text = data_address(config).removeprefix("file://")
    return Path(text) if text and "://" not in text else None


def shared_paths(names: Iterable[str], catalog: Any) -> list[Path]:
    """Return the local files of datasets without versions: all runs share them."""
    configs = (catalog_entry(name, catalog) for name in names)
    paths = (local_path(c) for c in configs if not c.get("versioned"))
    return [path for path in paths if path]


def dataset_file(
    name: str, catalog: Any, version: str | None = None
) -> DataFile | None:
    """Return a dataset's local file, if it has one; by default the loaded version."""
    config = catalog_entry(name, catalog)
    if not (path := local_path(config)):
        return None
    if versioned := bool(config.get("versioned")):
        try:
            version = version or inner_dataset(name, catalog).resolve_load_version()
        except DatasetError:  # the node that loads it will say so
            return None
        path = path / str(version) / path.name
    return DataFile(path, versioned) if path.is_file() else None


def pin_versions(pipeline: Any, catalog: Any, version: str) -> None:
    """Make a run load the versions that it saves itself, not the latest ones."""
    for name in pipeline.all_outputs():
        if catalog_entry(name, catalog).get("versioned"):
            saved = inner_dataset(name, catalog)
            if isinstance(saved, AbstractVersionedDataset) and saved._version:
                load, save = saved._version
                saved._version = Version(load or version, save)


def external_inputs(pipeline: Any) -> list[str]:
    """Return the datasets that a pipeline reads and does not write before."""
    names = sorted(pipeline.inputs())
    return [n for n in names if n != "parameters" and not n.startswith("params:")]


def saved_files(
    kedro_id: str, written: Collection[Path], pipeline: Any, catalog: Any
) -> dict[str, DataFile]:
    """Return the local files that the pipeline has saved, by dataset.

    They are versioned ones, which Kedro names by its id of the run, and those that the
    run has ``written``.
    """
    names = sorted(pipeline.all_outputs())
    found = {name: dataset_file(name, catalog, kedro_id) for name in names}
    return {
        name: file
        for name, file in found.items()
        if file and (file.versioned or file_notes.resolve(file.path) in written)
    }


def loaded_versions(files: DataFiles) -> dict[str, str]:
    """Return the versions of versioned inputs, by dataset."""
    found = {name: file for name, file in files.items() if file and file.versioned}
    return {name: file.path.parent.name for name, file in found.items()}


class Planner(SequentialRunner):
    """A runner that only finds out which nodes would run."""

    planned = Pipeline([])

    def _run(self, pipeline: Any, *_args: Any, **_kwargs: Any) -> None:
        self.planned = pipeline

    @property
    def _logger(self) -> logging.Logger:
        silent = logging.getLogger(f"{__name__}.planner")
        silent.disabled = True
        return silent


def nodes_to_run(pipeline: Any, catalog: Any, run_params: dict[str, Any]) -> Any:
    """Return the part of a pipeline that ``--only-missing-outputs`` leaves to run."""
    if not run_params.get("only_missing_outputs"):
        return pipeline
    planner = Planner()
    planner.run(pipeline, catalog, only_missing_outputs=True)
    return planner.planned
