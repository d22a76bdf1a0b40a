"""A record as one zip file, which is written here and may come from anywhere.

Whatever is wrong with it is found before anything of it is used. A model in it is code:
MLflow reads from the model's own description which flavour, which code and which types
to load. So only scikit-learn in skops with types that skops trusts is taken as it is.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import shutil
import stat
import tempfile
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from .record import DESCRIPTION, File, Record
from .runs import Trouble

RECORD = "record.json"
LARGEST_RECORD, LARGEST_DESCRIPTION = 64_000_000, 1_000_000  # bytes
ALWAYS_FINE, BLOWN_UP = 100_000_000, 100  # bytes unpacked, or times the packed ones
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError),
    *(UnicodeError, ValueError, OSError),
)
# What MLflow writes of a scikit-learn model in skops; nothing here leads to other code.
ABOUT = {
    *("artifact_path", "flavors", "is_signature_from_type_hint", "metadata"),
    *("mlflow_version", "model_id", "model_size_bytes", "model_uuid", "run_id"),
    *("saved_input_example_info", "signature", "type_hint_from_example"),
    "utc_time_created",
}
MODEL, ANY = "model.skops", None
FLAVOURS: dict[str, dict[str, Any]] = {
    "python_function": {
        "env": [{"conda": "conda.yaml", "virtualenv": "python_env.yaml"}],
        "loader_module": ["mlflow.sklearn"],
        "model_path": [MODEL],
        "predict_fn": ["predict", "predict_proba", "predict_log_proba"],
        "python_version": ANY,
    },
    "sklearn": {
        "code": [None],
        "pickled_model": [MODEL],
        "serialization_format": ["skops"],
        "sklearn_version": ANY,
        "skops_trusted_types": [None, []],
    },
}
EXAMPLES = (None, "input_example.json", "serving_input_example.json")
REQUIREMENTS = ("requirements.txt", "conda.yaml", "python_env.yaml")
REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(\[[\w,.-]+\])?( *[=<>!~]+[\w.*,<>=!~ ]+)?")
NO_REQUIREMENT = re.compile(
    r"|#.*|(dependencies|build_dependencies|pip):|-r requirements.txt|name: mlflow-env"
    r"|python: [\d.]+|(python|pip|setuptools|wheel)([=<>]+[\d.]+)?"
)
CHANNELS = "channels:\n- conda-forge\n"


class Refused(Trouble):
    """A file that is not taken; the message says why."""


def pack(record: Record, folder: Path, file: Path) -> None:
    """Write a record as a zip file, which appears when it is complete."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): path for path in found}
    for name in files:
        check_path(name)
    about = {n: File(sha256=sha256(p), size=p.stat().st_size) for n, p in files.items()}
    record = record.model_copy(update={"files": about})
    with tempfile.NamedTemporaryFile(dir=file.absolute().parent, delete=False) as part:
        try:
            with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
                # Without the time and the owner's rights, which a file's entry has.
                archive.writestr(zipfile.ZipInfo(RECORD), record.model_dump_json())
                for name, path in files.items():
                    entry = zipfile.ZipInfo(name)
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    with path.open("rb") as source:
                        with archive.open(entry, "w", force_zip64=True) as target:
                            shutil.copyfileobj(source, target)
            part.close()
            Path(part.name).replace(file)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise


def sha256(path: Path) -> str:
    """Return the SHA-256 digest of a file."""
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hashed.update(block)
    return hashed.hexdigest()


def unpack(file: Path, folder: Path, *, trust: bool = False) -> Record:
    """Check a zip file and unpack it into an empty folder.

    Args:
        file: From anybody.
        folder: An empty one.
        trust: Whether models may ask for anything.

    Raises:
        Refused: Something is wrong with the file; one line says what.
    """
    refused = f"{file} is refused"
    try:
        with zipfile.ZipFile(file) as archive:
            check_entries(archive.infolist(), file.stat().st_size)
            record = read_record(archive)
            check_files(archive, record)
            space = shutil.disk_usage(folder).free
            if (size := sum(about.size for about in record.files.values())) > space:
                raise Refused(f"it needs {size / 1e6:.0f} MB in {folder}")
            for name, about in record.files.items():
                extract(archive, name, about, folder / name)
    except Refused as error:
        raise Refused(f"{refused}: {error.message}") from error
    except DAMAGE as error:
        raise Refused(f"{refused}: it is damaged, or no zip: {error}") from error
    if not trust:
        for name in record.files:
            if posixpath.basename(name).casefold() == DESCRIPTION.casefold():
                if wanted := ", ".join(dict.fromkeys(demands(folder / name))):
                    raise Refused(
                        f"{refused}: its model {posixpath.dirname(name)} asks "
                        f"for {wanted[:500]} -- with --trust it is taken all the same, "
                        "and may then do anything that you may"
                    )
    return record


def check_path(name: str) -> None:
    """Refuse names that lead out of a folder, or mean something else elsewhere."""
    parts = name.split("/")
    if (
        not name
        or any(part in ("", ".", "..") or part[-1] in " ." for part in parts)
        or re.search(r"[\\\x00-\x1f\x7f\ud800-\udfff]|^[A-Za-z]:", name)
        or max(len(part.encode()) for part in parts) > 250
    ):
        raise Refused(f"{name[:80]!r} is no path of a file within a folder")


def check_entries(entries: list[zipfile.ZipInfo], packed: int) -> None:
    """Refuse entries that are no plain files, or would fill the disk."""
    for entry in entries:
        name, kind = entry.orig_filename, stat.S_IFMT(entry.external_attr >> 16)
        check_path(name)
        if kind not in (0, stat.S_IFREG):
            raise Refused(f"{name!r} is a link, or no plain file")
        if entry.flag_bits & 1:
            raise Refused(f"{name!r} is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Refused(f"{name!r} is compressed in an unknown way")
    same = (unicodedata.normalize("NFC", e.filename).casefold() for e in entries)
    names = Counter(same)
    if twice := [name for name, count in names.items() if count > 1]:
        raise Refused(f"it has {twice[0]!r} twice")
    for name in names:
        if inside := [str(p) for p in posix_parents(name) if p in names]:
            raise Refused(f"{inside[0]!r} is a file and a folder")
    size = sum(entry.file_size for entry in entries)
    if size > max(ALWAYS_FINE, BLOWN_UP * packed):
        raise Refused(f"it would unpack to {size / packed:.0f} times its size")


def posix_parents(name: str) -> Iterator[str]:
    """Yield the folders above a name."""
    while name := posixpath.dirname(name):
        yield name


def read_record(archive: zipfile.ZipFile) -> Record:
    """Return the record of an archive, if it is one."""
    if RECORD not in archive.namelist():
        raise Refused(f"it has no {RECORD}: `kedro share` has not made it")
    if archive.getinfo(RECORD).file_size > LARGEST_RECORD:
        raise Refused(f"its {RECORD} is over {LARGEST_RECORD / 1e6:.0f} MB")
    try:
        return Record.model_validate_json(archive.read(RECORD))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        if place == "format":
            raise Refused("another version of `kedro share` has made it") from error
        raise Refused(f"its {RECORD} is wrong: {place}: {first['msg']}") from error


def check_files(archive: zipfile.ZipFile, record: Record) -> None:
    """Refuse files that are not listed, not there, or of no run or model."""
    present, listed = set(archive.namelist()) - {RECORD}, set(record.files)
    if extra := sorted(present - listed):
        raise Refused(f"{extra[0]!r} is not listed in its {RECORD}")
    if missing := sorted(listed - present):
        raise Refused(f"{missing[0]!r} is missing")
    owners = {f"runs/{run.id}" for run in record.runs}
    owners |= {f"models/{model.id}" for model in record.models}
    for name in listed:
        if "/".join(name.split("/")[:2]) not in owners or name.count("/") < 2:
            raise Refused(f"{name!r} belongs to no run or model of it")


def extract(archive: zipfile.ZipFile, name: str, about: File, target: Path) -> None:
    """Unpack a file and check that it is what the record says."""
    if archive.getinfo(name).file_size != about.size:
        raise Refused(f"{name!r} has another size than its {RECORD} says")
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(name) as source, target.open("xb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
    if sha256(target) != about.sha256:
        raise Refused(f"{name!r} has another checksum than its {RECORD} says")


def demands(file: Path) -> Iterator[str]:
    """Yield what a model asks for beyond scikit-learn in skops.

    Args:
        file: Its description, ``MLmodel``, beside the model's files.
    """
    try:
        about = read_yaml(file)
        flavours = {name: dict(conf) for name, conf in about["flavors"].items()}
    except (yaml.YAMLError, *DAMAGE, KeyError, AttributeError, TypeError) as error:
        yield f"a reader of its {DESCRIPTION} ({str(error).partition(chr(10))[0]})"
        return
    yield from (str(name) for name, v in about.items() if name not in ABOUT and v)
    yield from (f"the flavour {name}" for name in flavours if name not in FLAVOURS)
    for name in FLAVOURS.keys() & ({"sklearn"} | flavours.keys()):
        conf, allowed = flavours.get(name, {}), FLAVOURS[name]
        for key in sorted(allowed.keys() | conf.keys()):
            if allowed.get(key, [None]) is not ANY:
                if conf.get(key) not in allowed.get(key, [None]):
                    said = "code_paths" if key == "code" else key
                    yield f"{said} = {conf.get(key)} in its flavour {name}"
    example = about.get("saved_input_example_info") or {}
    for key in ("artifact_path", "serving_input_path"):
        if example.get(key) not in EXAMPLES:
            yield f"the example {example[key]}"
    if (model := file.parent / MODEL).is_file():
        yield from (f"the type {name}" for name in untrusted(model))
    else:
        yield f"another file than {MODEL}"
    yield from (f"the requirement {line}" for line in requirements(file.parent))


def read_yaml(file: Path) -> dict[str, Any]:
    """Read a small YAML file in which nothing is repeated by reference."""
    if file.stat().st_size > LARGEST_DESCRIPTION:
        raise ValueError("too large")
    text = file.read_text("utf-8")
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
        raise ValueError("it refers to itself")
    found = yaml.safe_load(text)
    if not isinstance(found, dict):
        raise ValueError("no mapping")
    return found


def untrusted(model: Path) -> list[str]:
    """Return the types in a skops file that skops does not trust by itself."""
    import skops.io

    try:
        with zipfile.ZipFile(model) as archive:
            check_entries(archive.infolist(), model.stat().st_size)
        return skops.io.get_untrusted_types(file=model)
    except Exception as error:  # whatever a made-up file makes of skops
        said = str(getattr(error, "message", error)).partition("\n")[0]
        return [f"that skops finds no name for ({said or type(error).__name__})"]


def requirements(folder: Path) -> Iterator[str]:
    """Yield what an environment of the model would get that is not installed here."""
    installed = {found.metadata["Name"] for found in metadata.distributions()}
    known = {re.sub(r"[-_.]+", "-", name).lower() for name in installed if name}
    files = [file for name in REQUIREMENTS if (file := folder / name).is_file()]
    texts = (file.read_text("utf-8", "replace").replace(CHANNELS, "") for file in files)
    for line in "\n".join(texts).splitlines():
        text = line.strip().removeprefix("- ")
        wanted = REQUIREMENT.fullmatch(text)
        if wanted and re.sub(r"[-_.]+", "-", wanted[1]).lower() in known:
            continue
        if not NO_REQUIREMENT.fullmatch(text):
            yield text
