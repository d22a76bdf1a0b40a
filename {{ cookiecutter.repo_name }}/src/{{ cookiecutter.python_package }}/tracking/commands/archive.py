"""A file of shared runs: how it is written, checked and unpacked.

A file may come from anywhere: whatever is wrong with it is found before anything of it
is used. A model in it is code, for MLflow reads from the model's own description which
flavour, which code and which types to load. So only scikit-learn in skops with types
that skops trusts is taken as it is.
"""

import json
import re
import shutil
import stat
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from .. import datasets, redact
from . import record
from .project_runs import CommandError

RECORD_FILE, FORMAT = "record.json", 2
SMALL_BYTES, MAX_RATIO = 100_000_000, 100  # bytes unpacked, or times the packed ones
MAX_MLMODEL_BYTES = 5_000_000  # bytes, of a model's description
MODEL_FILE = "model.skops"
# What a model may ask for, by flavour; what it may say besides leads to no code.
ALLOWED_FLAVOURS: dict[str, dict[str, tuple]] = {
    "python_function": {
        "loader_module": ("mlflow.sklearn",),
        "model_path": (MODEL_FILE,),
        "predict_fn": ("predict", "predict_proba", "predict_log_proba"),
    },
    "sklearn": {"pickled_model": (MODEL_FILE,), "serialization_format": ("skops",)},
}
HARMLESS_KEYS = {"env", "python_version", "sklearn_version"}
# Parts that mean the same on every system, and lead nowhere else.
PATH = re.compile(r"(?!/|$|.:)(?:(?:^|/)[^/\\\x00-\x1f\x7f\ud800-\udfff]*(?<![/. ]))+")


def untrusted_features(file: Path) -> Iterator[str]:
    """Yield what a model needs beyond scikit-learn in the skops format."""
    import skops.io  # which takes a second

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


def run_folders(folder: Path, count: int) -> list[Path]:
    """Return the folder of each run in a file: all of it, if there is only one."""
    each = [folder / f"run{number}" for number in range(count)]
    return each if count > 1 else [folder]


def pack(records: list[dict[str, Any]], folder: Path, file: Path) -> None:
    """Write records, and their artifacts in ``run_folders``, as a zip file."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    if odd := [name for name in names if not PATH.fullmatch(name)]:
        raise CommandError(f"{odd[0]!r} is no path on every system.")
    files = {name: datasets.file_digest(path, "sha256") for name, path in names.items()}
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            listed = {"format": FORMAT, "records": records, "files": files}
            archive.writestr(RECORD_FILE, json.dumps(listed))
            for name, path in names.items():
                archive.write(path, name)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def unpack(file: Path, folder: Path, *, trust: bool = False) -> list[record.RunRecord]:
    """Check a zip file from anybody, unpack it, and return its runs.

    Raises:
        CommandError: Something is wrong, or a model asks for what needs ``trust``.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            names = check_entries(archive, file)
            about = json.loads(archive.read(RECORD_FILE))
            if about["format"] == 1:  # of one run; earlier versions wrote it
                about |= {"format": FORMAT, "records": [about["record"]]}
            if about["format"] != FORMAT:
                raise ValueError("another version of `kedro share` has made it")
            records = about["records"]
            record.require(records, "it holds no run")
            places = run_folders(folder, len(records))
            found = list(map(record.parse_record, records, places))
            if odd := {RECORD_FILE, *about["files"]} ^ names:
                raise ValueError(f"{min(odd)!r} is not listed, or missing")
            for name, digest in about["files"].items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source, (folder / name).open("xb") as copy:
                    shutil.copyfileobj(source, copy)
                if datasets.file_digest(folder / name, "sha256") != digest:
                    raise ValueError(f"{name!r} has another checksum")
        models = [p for p in folder.rglob("*") if p.name.lower() == "mlmodel"]
        checked = [] if trust else models
        wanted = [ask for model in checked for ask in untrusted_features(model)]
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
    size = sum(entry.file_size for entry in entries)
    if size > max(SMALL_BYTES, MAX_RATIO * packed):
        raise ValueError(f"it would unpack to {size / packed:.0f} times its size")
    return names
