"""The record of a run, apart from any store: its format, one reader and one writer.

A record is a folder: ``runs/ID`` and ``models/ID`` hold artifacts, and a ``Record`` the
rest, child runs included. Nothing in it is of one machine or one person.
"""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import mlflow
import yaml
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelInput,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
)
from mlflow.exceptions import MlflowException
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from . import origin, store
from .registry import VERSIONS
from .runs import INCOMPLETE, ORIGIN

PARENT, USER = "mlflow.parentRunId", "mlflow.user"
# Tags that lead to something of one store.
LEFT = {PARENT, VERSIONS, ORIGIN, INCOMPLETE}
DESCRIPTION = "MLmodel"
LARGEST_TEXT = 5_000_000  # bytes
# The folders before a file's name, in texts; an address is none.
FOLDERS = re.compile(
    r"(?<![\w.~…/\\:-])(?:file://)?(?:/|[A-Za-z]:[\\/])(?:[^\s/\\'\"<>|:,;]+[/\\])+"
)


def check_name(name: str) -> str:
    """Refuse names that MLflow refuses."""
    if not re.fullmatch(r"[\w./: -]{1,250}", name) or posixpath.normpath(name) != name:
        raise ValueError(f"{name[:50]!r} is no name that MLflow takes")
    if name.startswith(("/", "..")) or name == ".":
        raise ValueError(f"{name[:50]!r} is no name that MLflow takes")
    return name


Name = Annotated[str, AfterValidator(check_name)]
RunId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
ModelId = Annotated[str, StringConstraints(pattern=r"^m-[0-9a-f]{32}$")]
Title = Annotated[str, StringConstraints(min_length=1, max_length=250)]
Time = Annotated[int, Field(ge=0, lt=253_402_300_800_000)]  # ms, until the year 9999
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Params = dict[Name, Annotated[str, StringConstraints(max_length=6000)]]
Tags = dict[Name, Annotated[str, StringConstraints(max_length=8000)]]


class Part(BaseModel):
    """A part of a record: nothing is converted, nothing unknown is taken."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Value(Part):
    """A value of a metric."""

    key: Name
    value: float
    timestamp: Time
    step: Whole
    dataset: tuple[str, str] | None = None  # name and digest


class Data(Part):
    """A dataset that a run has used."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    digest: Annotated[str, StringConstraints(min_length=1, max_length=36)]
    source_type: Title
    source: Annotated[str, StringConstraints(max_length=65_535)]
    columns: Annotated[str, StringConstraints(max_length=1_048_575)] | None
    profile: Annotated[str, StringConstraints(max_length=1_048_575)] | None
    tags: dict[Name, Annotated[str, StringConstraints(max_length=500)]]


class Run(Part):
    """A run; ``origin`` is its id where it was made."""

    id: RunId
    origin: RunId
    experiment: Title
    parent: RunId | None
    name: Title
    status: Literal["FINISHED", "FAILED", "KILLED"]
    start: Time
    end: Time
    params: Params
    tags: Tags
    metrics: list[Value]
    data: list[Data]
    models_used: list[ModelId]


class Model(Part):
    """A logged model."""

    id: ModelId
    run: RunId
    step: Whole
    name: Annotated[str, StringConstraints(pattern=r"^[^/:.%\"'\x00-\x1f]{1,250}$")]
    type: Title | None
    status: Literal["READY", "FAILED"]
    params: Params
    tags: Tags
    metrics: list[Value]


class Version(Part):
    """A registered version of one of the models."""

    model: ModelId
    name: Annotated[str, StringConstraints(pattern=r"^[^/:.%\"'\x00-\x1f]{1,250}$")]
    number: int
    tags: Tags


class File(Part):
    """What an artifact must be."""

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]


class Record(Part):
    """A run and its child runs, each after its parent."""

    format: Literal[1] = 1
    runs: Annotated[list[Run], Field(min_length=1)]
    models: list[Model] = []
    versions: list[Version] = []
    files: dict[str, File] = {}

    def model_post_init(self, _context: Any) -> None:
        """Check that the parts fit together."""
        known: set[str | None] = {None}
        for run in self.runs:
            if run.id in known or run.parent not in known:
                raise ValueError(f"run {run.id} is there twice, or its parent is not")
            known = (known | {run.id}) - {None}
        models = {model.id for model in self.models}
        if len(models) < len(self.models) or {m.run for m in self.models} - known:
            raise ValueError("a model is there twice, or its run is not")
        if {version.model for version in self.versions} - models:
            raise ValueError("a version is of a model that is not there")


class Reader:
    """Reads runs of the store into a folder."""

    def __init__(self, folder: Path, project: Path, with_user: bool) -> None:
        self._client, self._folder = MlflowClient(), folder
        self._project, self._with_user = project, with_user
        places = {str(project): ".", sys.prefix: "…", str(Path.home()): "~"}
        longest = sorted(places.items(), key=lambda place: -len(place[0]))
        self._places = [
            (f"{style(Path(place))}/", f"{name}/".removeprefix("./"))
            for place, name in longest
            for style in (Path.as_uri, str)
        ]

    def clean(self, text: str) -> str:
        """Return a text without credentials, and without folders of this machine."""
        for place, name in self._places:
            text = text.replace(place, name)
        return store.mask(FOLDERS.sub("…/", text))

    def tags(self, tags: dict[str, str]) -> dict[str, str]:
        """Return tags that mean something elsewhere."""
        left = LEFT | (set() if self._with_user else {USER})
        return {k: self.clean(v) for k, v in tags.items() if k not in left}

    def params(self, params: dict[str, str]) -> dict[str, str]:
        """Return parameters that may be shown."""
        return {name: self.clean(value) for name, value in params.items()}

    def read(self, run: Any) -> Record:
        """Return a run and what belongs to it; the artifacts go into the folder."""
        record = Record.model_construct(runs=[], models=[], versions=[], files={})
        todo = [(run, None)]
        while todo:
            found, parent = todo.pop(0)
            run_id = found.info.run_id
            if found.info.status not in ("FINISHED", "FAILED", "KILLED"):
                raise store.ClickException(f"Run {run_id} has not ended yet.")
            record.runs.append(self._run(found, parent))
            for used in found.outputs.model_outputs if found.outputs else ():
                record.models.append(self._model(used, run_id))
            where = [found.info.experiment_id], f"tags.`{PARENT}` = '{run_id}'"
            children = mlflow.search_runs(*where, output_format="list")
            todo += [(child, run_id) for child in children]
        known = {model.id for model in record.models}
        for made in record.runs:
            for version in self._client.search_model_versions(f"run_id = '{made.id}'"):
                model = version.model_id or str(version.source).rpartition("/")[2]
                if model in known:
                    name, tags = version.name, self.tags(version.tags)
                    number = int(version.version)
                    record.versions.append(
                        Version(model=model, name=name, number=number, tags=tags)
                    )
        return Record.model_validate(record.model_dump())

    def telling(self) -> Iterator[str]:
        """Yield the artifacts, taken as they are, that tell a folder of ours."""
        told = [str(Path.home()).encode(), str(self._project).encode()]
        for file in sorted(self._folder.rglob("*")):
            if file.is_file() and file.stat().st_size < LARGEST_TEXT:
                if any(place in file.read_bytes() for place in told):
                    yield file.relative_to(self._folder).as_posix()

    def _run(self, run: Any, parent: str | None) -> Run:
        client, info, tags = self._client, run.info, run.data.tags
        folder = self._folder / "runs" / info.run_id
        folder.mkdir(parents=True)
        if client.list_artifacts(info.run_id):
            client.download_artifacts(info.run_id, "", str(folder))
        for name in (f"{origin.FOLDER}/{origin.COMMAND}", "failure/traceback.txt"):
            if (file := folder / name).is_file():
                file.write_text(self.clean(file.read_text("utf-8")), "utf-8")
        history = (client.get_metric_history(info.run_id, n) for n in run.data.metrics)
        experiment = client.get_experiment(info.experiment_id).name
        return Run(
            id=info.run_id,
            origin=tags.get(ORIGIN, info.run_id),
            experiment=tags.get("origin.experiment", experiment),
            parent=parent,
            name=info.run_name,
            status=info.status,
            start=info.start_time,
            end=info.end_time or info.start_time,
            params=self.params(run.data.params),
            tags=self.tags(tags),
            metrics=[value(metric) for values in history for metric in values],
            data=[self._data(used) for used in run.inputs.dataset_inputs],
            models_used=[used.model_id for used in run.inputs.model_inputs],
        )

    def _data(self, used: Any) -> Data:
        about = used.dataset
        return Data(
            name=about.name,
            digest=about.digest,
            source_type=about.source_type,
            source=self.clean(about.source),
            columns=about.schema,
            profile=about.profile,
            tags={tag.key: tag.value for tag in used.tags},
        )

    def _model(self, output: Any, run_id: str) -> Model:
        model = self._client.get_logged_model(output.model_id)
        folder = self._folder / "models" / model.model_id
        folder.parent.mkdir(exist_ok=True)
        if self._client.list_logged_model_artifacts(model.model_id):
            place = model.artifact_location  # by its id, MLflow would add a file
            part = self._folder / "part" / model.model_id
            Path(download_artifacts(place, dst_path=str(part))).rename(folder)
        describe(folder, artifact_path="")
        own = [metric for metric in model.metrics or () if metric.run_id == run_id]
        return Model(
            id=model.model_id,
            run=run_id,
            step=output.step,
            name=model.name,
            type=model.model_type or None,
            status="READY" if model.status == LoggedModelStatus.READY else "FAILED",
            params=self.params(model.params or {}),
            tags=self.tags(model.tags or {}),
            metrics=[value(metric) for metric in own],
        )


def value(metric: Metric) -> Value:
    """Return a metric's value as a record has it."""
    name, digest = metric.dataset_name, metric.dataset_digest
    return Value(
        key=metric.key,
        value=metric.value,
        timestamp=metric.timestamp,
        step=metric.step,
        dataset=(name, digest) if name and digest else None,
    )


def describe(folder: Path, **changes: str) -> None:
    """Change what a model's own description says of where it is."""
    file = folder / DESCRIPTION
    if file.is_file():
        about = yaml.safe_load(file.read_text("utf-8")) | changes
        file.write_text(yaml.safe_dump(about, allow_unicode=True), "utf-8")


def received(record: Record, experiment: str) -> str | None:
    """Return the id of the run that a record is here already.

    What an interrupted receiver has left is deleted.
    """
    client, made = MlflowClient(), record.runs[0].origin
    try:
        run = client.get_run(made)
        if run.info.lifecycle_stage == "active" and INCOMPLETE not in run.data.tags:
            return made
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    here = client.search_runs([experiment], f"tags.`{ORIGIN}` = '{made}'")
    complete = [run.info.run_id for run in here if INCOMPLETE not in run.data.tags]
    if complete:
        return complete[0]
    while here:
        run_id = here.pop().info.run_id
        here += client.search_runs([experiment], f"tags.`{PARENT}` = '{run_id}'")
        ours = f"source_run_id = '{run_id}'"
        for model in client.search_logged_models([experiment], filter_string=ours):
            client.delete_logged_model(model.model_id)
        client.delete_run(run_id)
    return None


def write(record: Record, folder: Path, experiment: str) -> str:
    """Record a run in the store, and return its id there.

    Until everything is there a tag says that it is not: see ``received``.

    Args:
        record: What a ``Reader`` has read, or an archive held.
        folder: Its artifacts; the descriptions of models are changed.
        experiment: The id of the experiment.
    """
    client = MlflowClient()
    ids: dict[str, str] = {}
    for run in record.runs:
        tags = {k: v for k, v in run.tags.items() if k not in LEFT}
        tags |= {ORIGIN: run.origin, "origin.experiment": run.experiment}
        tags |= {INCOMPLETE: "true", "mlflow.runName": run.name}
        tags |= {PARENT: ids[run.parent]} if run.parent else {}
        made = client.create_run(experiment, run.start, tags, run.name)
        ids[run.id] = run_id = made.info.run_id
        params = [Param(*item) for item in run.params.items()]
        client.log_batch(run_id, [metric(v) for v in run.metrics], params)
        used = [dataset(data) for data in run.data]
        client.log_inputs(run_id, used, known_models(client, run.models_used))
        artifacts = folder / "runs" / run.id
        if artifacts.is_dir() and any(artifacts.iterdir()):
            client.log_artifacts(run_id, str(artifacts))
    for model in record.models:
        run_id = ids[model.run]
        tags = {k: v for k, v in model.tags.items() if k not in LEFT}
        about = (model.name, run_id, tags, model.params, model.type)
        logged = client.create_logged_model(experiment, *about)
        describe(
            artifacts := folder / "models" / model.id,
            artifact_path=logged.artifact_location,
            model_id=logged.model_id,
            model_uuid=logged.model_id,
            run_id=run_id,
        )
        if artifacts.is_dir():
            client.log_model_artifacts(logged.model_id, str(artifacts))
        client.finalize_logged_model(logged.model_id, model.status)
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, model.step)])
        values = [metric(v, logged.model_id, run_id) for v in model.metrics]
        client.log_batch(run_id, values)
    for run in reversed(record.runs):
        client.set_terminated(ids[run.id], run.status, run.end)
        client.delete_tag(ids[run.id], INCOMPLETE)
    return ids[record.runs[0].id]


def metric(found: Value, model: str | None = None, run_id: str | None = None) -> Metric:
    """Return a value as MLflow takes it."""
    name, digest = found.dataset or (None, None)
    where = (found.key, found.value, found.timestamp, found.step)
    return Metric(*where, model, name, digest, run_id)


def dataset(data: Data) -> DatasetInput:
    """Return a dataset as MLflow takes it."""
    about = (data.name, data.digest, data.source_type, data.source)
    tags = [InputTag(*item) for item in data.tags.items()]
    return DatasetInput(Dataset(*about, data.columns, data.profile), tags)


def known_models(client: MlflowClient, wanted: list[str]) -> list[LoggedModelInput]:
    """Return the models that a run has used and that this store has."""
    found = []
    for model_id in wanted:
        try:
            client.get_logged_model(model_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        else:
            found.append(LoggedModelInput(model_id))
    return found
