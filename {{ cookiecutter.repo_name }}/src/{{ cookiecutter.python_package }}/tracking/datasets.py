"""The datasets that a run reads: digests, schemas, and the runs that wrote them."""

import hashlib
import json
import logging
import re
import warnings
from pathlib import Path
from typing import Any

from . import catalog_files, client, database, file_notes, names
from .catalog_files import DataFile, DataFiles

logger = logging.getLogger(__name__)


def file_digest(path: Path, algorithm: str = "md5") -> str:
    """Return the digest of a file's bytes, as ``md5sum`` does."""
    hashed = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hashed.update(block)
    return hashed.hexdigest()


def md5(content: bytes) -> str:
    """Return the MD5 digest of bytes."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def input_files(pipeline: Any, catalog: Any) -> DataFiles:
    """Return the files that the pipeline reads, digested, by dataset.

    None stands for what is no local file: a table of a database, a file elsewhere.
    """
    found: dict[str, DataFile | None] = {}
    for name in catalog_files.external_inputs(pipeline):
        if file := catalog_files.dataset_file(name, catalog):
            before = file_notes.signature(file.path)
            file = file._replace(digest=file_digest(file.path), signature=before)
        found[name] = file
    return found


def find_writers(files: DataFiles) -> dict[str, str]:
    """Return which MLflow run has written each input, by dataset.

    Warns if they come from different runs, or have changed since.
    """
    found = {}
    for name, file in files.items():
        if file and (run_id := file_notes.writing_run(file.path)):
            found[name] = run_id
    if len(set(found.values())) > 1 or any(" " in run for run in found.values()):
        said = ", ".join(f"{name} from {run}" for name, run in found.items())
        logger.warning("The inputs do not come from one run: %s.", said)
    return found


def upstream_run_ids(run: Any) -> list[str]:
    """Return the ids of the runs that have written the inputs of an MLflow run."""
    tags = run.data.tags.items()
    written = {text for name, text in tags if re.fullmatch(r"data\..*\.run_id", name)}
    return sorted(text for text in written if re.fullmatch("[0-9a-f]{32}", text))


def check_unchanged(run_id: str, name: str, file: DataFile | None) -> bool:
    """Tell whether a file is as it was when it was digested; if not, tag the run."""
    from mlflow import MlflowClient

    if not file or file_notes.signature(file.path) == file.signature:
        return True
    logger.warning("%s has changed while the run read it.", file.path)
    why = "unknown: the file changed while the run read it"
    MlflowClient().set_tag(run_id, names.data_tag(name, "digest"), why)
    return False


def log_input_or_warn(
    run_id: str, name: str, file: DataFile | None, table: Any
) -> None:
    """Log an input; if that fails, say so: the pipeline needs no description of it."""
    calls = client.BestEffortCalls(run_id, policy={})
    calls.attempt(f"the input {name}", log_input, name, file, table)
    calls.report_failures()


def log_input(run_id: str, name: str, file: DataFile | None, table: Any) -> None:
    """Log a dataset with the digest of its file or, without a file, of its table.

    The schema of a pandas table is logged with it; a tag says what has no digest.
    """
    if not check_unchanged(run_id, name, file):
        return
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.data.pandas_dataset import from_pandas
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.utils import validation

    about: dict[str, Any]
    title = name[: validation.MAX_DATASET_NAME_SIZE]
    source: Any = file.path.as_uri() if file else None
    known = file.digest if file else None
    if isinstance(table, pd.DataFrame):
        if not known:
            known = md5(pd.util.hash_pandas_object(table).to_numpy().tobytes())
        given = {"source": source, "name": title, "digest": known}
        with warnings.catch_warnings():  # hints about integers, and on local sources
            warnings.simplefilter("ignore", UserWarning)
            about = from_pandas(with_the_same_schema(table), **given).to_dict()
            about["profile"] = json.dumps(from_pandas(table, **given).profile)
        about = within_limits(name, about)
    elif source:
        where = json.dumps({"uri": source})
        about = {"name": title, "digest": known}
        about |= {"source_type": "local", "source": where}
    else:
        why = f"none: {type(table).__name__} is neither a local file nor a pandas table"
        MlflowClient().set_tag(run_id, names.data_tag(name, "digest"), why)
        return
    context = [InputTag("mlflow.data.context", "input")]
    used = [DatasetInput(Dataset(**about), context)]
    database.retry_on_conflict(MlflowClient().log_inputs, run_id, used)


def with_the_same_schema(table: Any) -> Any:
    """Return the rows that decide about a pandas table's schema.

    MLflow looks at each cell, which takes seconds a million. Of each column, the first
    row of each type, with and without a value, is enough. If cells hold other values,
    as lists do, all rows are returned.
    """
    import numpy as np
    import pandas as pd

    nested = (list, dict, np.ndarray)
    few: set[int] = set()
    for number in range(table.shape[1]):
        column = table.iloc[:, number]
        kinds = pd.DataFrame({"missing": column.isna().to_numpy()})
        if column.dtype.kind == "O" and not isinstance(column.dtype, pd.StringDtype):
            kinds["type"] = column.astype(object).map(type).to_numpy()
            if any(issubclass(found, nested) for found in kinds["type"].unique()):
                return table
        few.update(np.flatnonzero(~kinds.duplicated()).tolist())
    return table.iloc[sorted(few)]


def within_limits(name: str, about: dict[str, Any]) -> dict[str, Any]:
    """Leave out the schema or profile of a dataset that MLflow would refuse."""
    from mlflow.utils import validation

    limits = {
        "schema": validation.MAX_DATASET_SCHEMA_SIZE,
        "profile": validation.MAX_DATASET_PROFILE_SIZE,
    }
    for part, most in limits.items():
        if len(about.get(part) or "") > most:
            logger.warning(
                "%s is logged without its %s: MLflow takes at most %s characters.",
                *(name, part, most),
            )
            del about[part]
    return about
