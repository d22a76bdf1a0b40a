"""What ``kedro receive`` refuses, each with a line that says why; without a store."""

import hashlib
import importlib
import io
import json
import os
import stat
import sys
import warnings
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import PACKAGE

RUN, MODEL = "0" * 31 + "1", "m-" + "0" * 31 + "2"
ARTIFACTS, FILES = f"runs/{RUN}", f"models/{MODEL}"
NOTE = f"{ARTIFACTS}/note.txt"


@pytest.fixture(scope="module")
def archive(generated):
    """Return the module ``tracking.archive`` of a generated project."""
    sys.path.insert(0, str(generated / "src"))
    yield importlib.import_module(f"{PACKAGE}.tracking.archive")
    sys.path.remove(str(generated / "src"))
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def good(tmp_path_factory, archive) -> dict[str, bytes]:
    """Return the entries of a file with a run and a real model."""
    import mlflow.sklearn
    from sklearn.linear_model import LogisticRegression

    folder = tmp_path_factory.mktemp("good")
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"serialization_format": "skops", "pip_requirements": ["pandas"]}
        mlflow.sklearn.save_model(model, str(folder / FILES), **options)
    (folder / ARTIFACTS).mkdir(parents=True)
    (folder / NOTE).write_text("a note\n" * 100)
    record = importlib.import_module(f"{PACKAGE}.tracking.record")
    run = record.Run(
        **{"id": RUN, "origin": RUN, "experiment": "e", "parent": None, "name": "n"},
        **{"status": "FINISHED", "start": 1, "end": 2, "params": {"C": "1"}},
        **{"tags": {"t": "1"}, "data": [], "models_used": []},
        metrics=[record.Value(key="accuracy", value=0.5, timestamp=1, step=0)],
    )
    model = record.Model(
        **{"id": MODEL, "run": RUN, "step": 0, "name": "model", "type": None},
        **{"status": "READY", "params": {}, "tags": {}, "metrics": []},
    )
    version = record.Version(model=MODEL, name="flowers", number=1, tags={})
    about = record.Record(runs=[run], models=[model], versions=[version])
    file = folder.parent / "good.zip"
    archive.pack(about, folder, file)
    with zipfile.ZipFile(file) as made:
        return {name: made.read(name) for name in made.namelist()}


class Zip:
    """A file in the making: its record, its entries, and what is odd about them."""

    def __init__(self, entries: dict[str, bytes]) -> None:
        self.record = json.loads(entries["record.json"])
        self.entries = {k: v for k, v in entries.items() if k != "record.json"}
        self.extra: list[tuple[str | zipfile.ZipInfo, bytes]] = []
        self.run, self.model = self.record["runs"][0], self.record["models"][0]

    def put(self, name: str, content: bytes) -> None:
        """Add or change a file, listed as it is."""
        self.entries[name] = content
        digest = hashlib.sha256(content).hexdigest()
        self.record["files"][name] = {"sha256": digest, "size": len(content)}

    def odd(self, name: str, **changes) -> None:
        """Add a listed file whose entry has other attributes."""
        self.put(name, b"x")
        entry = zipfile.ZipInfo(name)
        for key, value in changes.items():
            setattr(entry, key, value)
        self.extra.append((entry, self.entries.pop(name)))

    def describe(self, change, file: str = f"{FILES}/MLmodel") -> None:
        """Change the description of the model."""
        about = yaml.safe_load(self.entries[f"{FILES}/MLmodel"])
        change(about)
        self.put(file, yaml.safe_dump(about).encode())

    def write(self, file: Path) -> None:
        with warnings.catch_warnings(), zipfile.ZipFile(file, "w", 8) as made:
            warnings.simplefilter("ignore")  # a name twice
            made.writestr("record.json", json.dumps(self.record))
            for name, content in [*self.entries.items(), *self.extra]:
                made.writestr(name, content)


def skops_of(model) -> bytes:
    import skops.io

    return skops.io.dumps(model)


def dangerous() -> bytes:
    from sklearn.preprocessing import FunctionTransformer

    return skops_of(FunctionTransformer(os.system))


def inner_bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", 8) as made:
        made.writestr("schema.json", b" " * 150_000_000)
    return file.getvalue()


def flavours(about: dict) -> tuple[dict, dict]:
    return about["flavors"]["python_function"], about["flavors"]["sklearn"]


HOSTILE = {
    # The file.
    "no record": (
        lambda z: z.record.clear(),
        "record.json is wrong: runs: Field required",
    ),
    "unknown version": (
        lambda z: z.record.update(format=2),
        "another version of `kedro share`",
    ),
    "absolute path": (lambda z: z.put("/etc/passwd", b"x"), "'/etc/passwd' is no path"),
    "climbing path": (lambda z: z.put("../x", b"x"), "'../x' is no path"),
    "climbing within": (lambda z: z.put(f"{ARTIFACTS}/../../x", b"x"), "is no path"),
    "backslashes": (lambda z: z.put(f"{ARTIFACTS}/..\\..\\x", b"x"), "is no path"),
    "drive": (lambda z: z.put("C:/x", b"x"), "'C:/x' is no path"),
    "dot": (lambda z: z.put(f"{ARTIFACTS}/./x", b"x"), "is no path"),
    "line break": (lambda z: z.put(f"{ARTIFACTS}/a\nb", b"x"), "is no path"),
    "zero byte": (
        lambda z: z.odd(f"{ARTIFACTS}/a", filename=f"{ARTIFACTS}/a\0b"),
        "is no path",
    ),
    "trailing space": (lambda z: z.put(f"{ARTIFACTS}/a ", b"x"), "is no path"),
    "folder": (lambda z: z.put(f"{ARTIFACTS}/a/", b""), "is no path"),
    "link": (
        lambda z: z.odd(f"{ARTIFACTS}/a", external_attr=(stat.S_IFLNK | 0o777) << 16),
        "is a link",
    ),
    "pipe": (
        lambda z: z.odd(f"{ARTIFACTS}/a", external_attr=stat.S_IFIFO << 16),
        "no plain file",
    ),
    "name twice": (lambda z: z.extra.append((NOTE, b"x")), "twice"),
    "name twice but for case": (
        lambda z: z.put(f"{ARTIFACTS}/NOTE.txt", b"x"),
        "twice",
    ),
    "file and folder": (lambda z: z.put(f"{NOTE}/a", b"x"), "is a file and a folder"),
    "unknown compression": (
        lambda z: z.odd(f"{ARTIFACTS}/a", compress_type=zipfile.ZIP_BZIP2),
        "compressed in an unknown way",
    ),
    "bomb": (
        lambda z: z.put(f"{ARTIFACTS}/a", b"0" * 150_000_000),
        "times its size",
    ),
    "not listed": (
        lambda z: z.entries.update({f"{ARTIFACTS}/a": b"x"}),
        "is not listed",
    ),
    "missing": (lambda z: z.entries.pop(NOTE), "note.txt' is missing"),
    "other size": (lambda z: z.entries.update({NOTE: b"x"}), "another size"),
    "other checksum": (
        lambda z: z.entries.update({NOTE: b"b note\n" * 100}),
        "another checksum",
    ),
    "of no run": (lambda z: z.put(f"runs/{'f' * 32}/a", b"x"), "belongs to no run"),
    "outside of runs": (lambda z: z.put("a", b"x"), "belongs to no run"),
    # The record.
    "run id": (lambda z: z.run.update(id="../../x"), "runs.0.id"),
    "metric is no number": (
        lambda z: z.run["metrics"][0].update(value="high"),
        "runs.0.metrics.0.value: Input should be a valid number",
    ),
    "metric's step": (lambda z: z.run["metrics"][0].update(step=0.5), "metrics.0.step"),
    "time": (lambda z: z.run.update(start=10**18), "runs.0.start"),
    "status": (lambda z: z.run.update(status="RUNNING"), "runs.0.status"),
    "run twice": (lambda z: z.record["runs"].append(z.run), "there twice"),
    "parent": (lambda z: z.run.update(parent="f" * 32), "its parent is not"),
    "model's run": (lambda z: z.model.update(run="f" * 32), "its run is not"),
    "model's name": (lambda z: z.model.update(name="../x"), "models.0.name"),
    "version's model": (
        lambda z: z.record["versions"][0].update(model="m-" + "f" * 32),
        "a model that is not there",
    ),
    "climbing tag": (
        lambda z: z.run["tags"].update({"../x": ""}),
        "is no name that MLflow takes",
    ),
    "long parameter": (lambda z: z.run["params"].update(C="1" * 6001), "params.C"),
    "tag is no text": (lambda z: z.run["tags"].update(t=1), "runs.0.tags.t"),
    "name that steers a terminal": (
        lambda z: z.run["tags"].update({"a\n\x1b[2J": ""}),
        "is no name that MLflow takes",
    ),
    "unknown field": (lambda z: z.run.update(code="x"), "runs.0.code"),
    # The model.
    "code_paths": (
        lambda z: z.describe(lambda a: flavours(a)[1].update(code="code")),
        "code_paths = code in its flavour sklearn",
    ),
    "code of pyfunc": (
        lambda z: z.describe(lambda a: flavours(a)[0].update(code="code")),
        "code_paths = code in its flavour python_function",
    ),
    "loader": (
        lambda z: z.describe(lambda a: flavours(a)[0].update(loader_module="os")),
        "loader_module = os in its flavour python_function",
    ),
    "other flavour": (
        lambda z: z.describe(lambda a: a["flavors"].update(pytorch={"data": "x"})),
        "the flavour pytorch",
    ),
    "pickle": (
        lambda z: z.describe(
            lambda a: flavours(a)[1].update(serialization_format="cloudpickle")
        ),
        "serialization_format = cloudpickle",
    ),
    "pickle by leaving the format out": (
        lambda z: z.describe(lambda a: flavours(a)[1].pop("serialization_format")),
        "serialization_format = None",
    ),
    "trust in types": (
        lambda z: z.describe(
            lambda a: flavours(a)[1].update(skops_trusted_types=["os.system"])
        ),
        "skops_trusted_types = ['os.system']",
    ),
    "type": (
        lambda z: z.put(f"{FILES}/model.skops", dangerous()),
        "the type posix.system",
    ),
    "no skops file": (
        lambda z: z.put(f"{FILES}/model.skops", b"x"),
        "skops finds no name for",
    ),
    "bomb in skops": (
        lambda z: z.put(f"{FILES}/model.skops", inner_bomb()),
        "times its size",
    ),
    "model elsewhere": (
        lambda z: z.describe(
            lambda a: [
                conf.update({key: "../../x"})
                for conf, key in zip(
                    flavours(a), ("model_path", "pickled_model"), strict=True
                )
            ]
        ),
        "pickled_model = ../../x",
    ),
    "two models": (
        lambda z: z.describe(lambda a: flavours(a)[0].update(model_path="other.pkl")),
        "model_path = other.pkl",
    ),
    "method": (
        lambda z: z.describe(lambda a: flavours(a)[0].update(predict_fn="fit")),
        "predict_fn = fit",
    ),
    "example elsewhere": (
        lambda z: z.describe(
            lambda a: a.update(saved_input_example_info={"artifact_path": "../x"})
        ),
        "the example ../x",
    ),
    "unknown setting": (
        lambda z: z.describe(lambda a: a.update(auth_policy={"a": 1})),
        "auth_policy",
    ),
    "aliases": (
        lambda z: z.put(f"{FILES}/MLmodel", b"a: &a [1]\nflavors: {x: *a}\n"),
        "it refers to itself",
    ),
    "tags of Python": (
        lambda z: z.put(f"{FILES}/MLmodel", b"a: !!python/object/apply:os.getpid []\n"),
        "a reader of its MLmodel",
    ),
    "no flavours": (
        lambda z: z.put(f"{FILES}/MLmodel", b"flavors: 3\n"),
        "a reader of its MLmodel",
    ),
    "model among artifacts": (
        lambda z: z.describe(lambda a: None, f"{ARTIFACTS}/a/mlmodel"),
        "another file than model.skops",
    ),
    "requirement from an address": (
        lambda z: z.put(f"{FILES}/requirements.txt", b"pandas @ https://host/x.whl"),
        "the requirement pandas @ https://host/x.whl",
    ),
    "requirement that is an option": (
        lambda z: z.put(f"{FILES}/requirements.txt", b"--index-url=http://host\n"),
        "the requirement --index-url=http://host",
    ),
    "requirement that nobody has here": (
        lambda z: z.put(f"{FILES}/requirements.txt", b"pandsa==1.0\n"),
        "the requirement pandsa==1.0",
    ),
    "requirement in conda.yaml": (
        lambda z: z.put(
            f"{FILES}/conda.yaml", b"dependencies: [python=3.11, {pip: [./x]}]\n"
        ),
        "the requirement dependencies: [python=3.11, {pip: [./x]}]",
    ),
    "channel": (
        lambda z: z.put(f"{FILES}/conda.yaml", b"channels: [http://host]\n"),
        "the requirement channels: [http://host]",
    ),
}


def refusal(archive, file: Path, folder: Path, **options) -> str:
    """Return the line that refuses a file, of which nothing was written elsewhere."""
    folder.mkdir()
    before = set(folder.parent.rglob("*"))
    with pytest.raises(archive.Refused) as caught:
        archive.unpack(file, folder, **options)
    written = set(folder.parent.rglob("*")) - before
    assert all(path.is_relative_to(folder) for path in written)
    assert caught.value.message.isprintable()
    assert caught.value.message.startswith(f"{file} is refused: ")
    return caught.value.message


def test_a_good_file_is_taken(archive, good, tmp_path):
    Zip(good).write(tmp_path / "good.zip")
    folder = tmp_path / "folder"
    folder.mkdir()
    record = archive.unpack(tmp_path / "good.zip", folder)
    assert record.runs[0].metrics[0].value == 0.5
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in files(folder)}
    assert found == {k: v for k, v in good.items() if k != "record.json"}


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused(archive, good, tmp_path, name):
    change, line = HOSTILE[name]
    made = Zip(good)
    change(made)
    made.write(tmp_path / "bad.zip")
    assert line in refusal(archive, tmp_path / "bad.zip", tmp_path / "folder")


MODELS = list(HOSTILE)[list(HOSTILE).index("code_paths") :]


@pytest.mark.parametrize("name", [*MODELS, "climbing path", "link", "other checksum"])
def test_trust_takes_models_and_nothing_else(archive, good, tmp_path, name):
    change, line = HOSTILE[name]
    made = Zip(good)
    change(made)
    made.write(tmp_path / "bad.zip")
    if name not in MODELS:
        assert line in refusal(
            archive, tmp_path / "bad.zip", tmp_path / "folder", trust=True
        )
    else:
        (tmp_path / "folder").mkdir()
        archive.unpack(tmp_path / "bad.zip", tmp_path / "folder", trust=True)


DAMAGES = {
    "no zip": lambda data: b"hello",
    "empty": lambda data: b"",
    "cut off": lambda data: data[: len(data) // 2],
    "a flipped bit in a file": lambda data: flipped(data, NOTE),
    "a flipped bit in the record": lambda data: flipped(data, "record.json"),
    "encrypted": lambda data: encrypted(data),
    "an entry of another name": lambda data: data.replace(b"note.txt", b"nota.txt", 1),
}


def flipped(data: bytes, name: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as made:
        entry = made.getinfo(name)
    place = entry.header_offset + 30 + len(name) + entry.compress_size // 2
    return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


def encrypted(data: bytes) -> bytes:
    place = data.index(b"PK\x01\x02") + 8
    return data[:place] + bytes([data[place] | 1]) + data[place + 1 :]


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_refused(archive, good, tmp_path, name):
    Zip(good).write(tmp_path / "good.zip")
    data = DAMAGES[name]((tmp_path / "good.zip").read_bytes())
    (tmp_path / "bad.zip").write_bytes(data)
    refusal(archive, tmp_path / "bad.zip", tmp_path / "folder")


names = st.text(st.sampled_from("a.\\/: ~C\0\nü"), max_size=12) | st.text(max_size=8)


@settings(deadline=None)
@given(names)
def test_a_path_that_is_taken_stays_within_its_folder_on_every_system(archive, name):
    try:
        archive.check_path(name)
    except archive.Refused:
        return
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(name)
        assert not path.is_absolute() and not path.drive and not path.root
        assert ".." not in path.parts and "/".join(path.parts) == name
    assert os.path.normpath(name) == name


@settings(max_examples=50, deadline=None)
@given(st.lists(names, max_size=3))
def test_nothing_is_unpacked_outside_of_the_folder(
    archive, good, tmp_path_factory, paths
):
    base = tmp_path_factory.mktemp("paths")
    made = Zip(good)
    for path in paths:
        try:
            made.put(f"{ARTIFACTS}/{path}", b"x")
            made.write(base / "made.zip")
        except (UnicodeError, ValueError):
            return  # no such file can be made
    made.write(base / "made.zip")
    (base / "folder").mkdir()
    try:
        archive.unpack(base / "made.zip", base / "folder")
    except archive.Refused:
        pass
    assert {path.name for path in base.iterdir()} == {"made.zip", "folder"}
