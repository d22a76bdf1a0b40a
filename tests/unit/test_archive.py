"""``tracking.commands.archive``: files of runs, and why one is refused."""

import hashlib
import io
import json
import os
import stat
import warnings
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

RUN = "0" * 31 + "1"
NOTE = "artifacts/note.txt"


@pytest.fixture(scope="module")
def good(tmp_path_factory, tracking_package) -> dict[str, bytes]:
    """Return the entries of a file with a run, a child run and a real model."""
    import mlflow.sklearn
    from sklearn.linear_model import LogisticRegression

    folder = tmp_path_factory.mktemp("good")
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"serialization_format": "skops", "pip_requirements": ["pandas"]}
        mlflow.sklearn.save_model(model, str(folder / "model0"), **options)
    (folder / NOTE).parent.mkdir(parents=True)
    (folder / NOTE).write_text("a note\n" * 100)
    times = {"start_time": "1", "end_time": "2"}
    origin = [{"key": "origin.run_id", "value": RUN}]
    about = {
        "run": {
            "info": {"run_name": "n", "status": "FINISHED", **times},
            "data": {
                "metrics": [{"key": "a", "value": 0.5, "timestamp": "1", "step": "0"}],
                "params": [{"key": "C", "value": "1"}],
                "tags": origin,
            },
            "outputs": {"model_outputs": [{"model_id": "m-1", "step": "0"}]},
        },
        "models": [{"info": {"name": "model", "status": "LOGGED_MODEL_READY"}}],
        "children": [],
    }
    child = {"info": {"status": "FAILED", **times}, "data": {"tags": origin}}
    about["children"].append({"run": child, "models": [], "children": []})
    file = folder.parent / "good.zip"
    tracking_package.commands.archive.pack([about], folder, file)
    with zipfile.ZipFile(file) as made:
        return {name: made.read(name) for name in made.namelist()}


class Zip:
    """A file in the making: what it lists, its entries, and what is odd about them."""

    def __init__(self, entries: dict[str, bytes]) -> None:
        self.listed = json.loads(entries["record.json"])
        (self.record,) = self.listed["records"]
        self.entries = {k: v for k, v in entries.items() if k != "record.json"}
        self.extra: list[tuple[str | zipfile.ZipInfo, bytes]] = []
        self.info, self.data = self.record["run"]["info"], self.record["run"]["data"]
        self.model = self.record["models"][0]["info"]

    def put(self, name: str, content: bytes) -> None:
        """Add or change a file, listed as it is."""
        self.entries[name] = content
        self.listed["files"][name] = hashlib.sha256(content).hexdigest()

    def odd(self, name: str, **changes) -> None:
        """Add a listed file whose entry has other attributes."""
        self.put(name, b"x")
        entry = zipfile.ZipInfo(name)
        for key, value in changes.items():
            setattr(entry, key, value)
        self.extra.append((entry, self.entries.pop(name)))

    def tag(self, key, value) -> None:
        """Add a tag to the run."""
        self.data["tags"].append({"key": key, "value": value})

    def describe(self, change, file: str = "model0/MLmodel") -> None:
        """Change the description of the model."""
        about = yaml.safe_load(self.entries["model0/MLmodel"])
        change(about)
        self.put(file, yaml.safe_dump(about).encode())

    def ask(self, flavour: str, **said) -> None:
        """Have a flavour of the model say something else."""
        self.describe(lambda about: about["flavors"][flavour].update(said))

    def write(self, file: Path) -> None:
        with (
            warnings.catch_warnings(),
            zipfile.ZipFile(file, "w", 8, compresslevel=1) as made,
        ):
            warnings.simplefilter("ignore")  # a name twice
            made.writestr("record.json", json.dumps(self.listed))
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
    with zipfile.ZipFile(file, "w", 8, compresslevel=1) as made:
        made.writestr("schema.json", b" " * 101_000_000)
    return file.getvalue()


def flavours(about: dict) -> tuple[dict, dict]:
    return about["flavors"]["python_function"], about["flavors"]["sklearn"]


HOSTILE = {
    # The file.
    "no record": (lambda z: z.listed.pop("records"), "'records'"),
    "unknown version": (
        lambda z: z.listed.update(format=3),
        "another version of `kedro share`",
    ),
    "no run": (lambda z: z.listed.update(records=[]), "it holds no run"),
    "a bad run among several": (
        lambda z: z.listed["records"].append({"run": {}}),
        "'' is no id of a run",
    ),
    "absolute path": (lambda z: z.put("/etc/passwd", b"x"), "'/etc/passwd' is no path"),
    "climbing path": (lambda z: z.put("../x", b"x"), "'../x' is no path"),
    "climbing within": (lambda z: z.put("artifacts/../../x", b"x"), "is no path"),
    "backslashes": (lambda z: z.put("artifacts/..\\..\\x", b"x"), "is no path"),
    "drive": (lambda z: z.put("C:/x", b"x"), "'C:/x' is no path"),
    "dot": (lambda z: z.put("artifacts/./x", b"x"), "is no path"),
    "line break": (lambda z: z.put("artifacts/a\nb", b"x"), "is no path"),
    "zero byte": (
        lambda z: z.odd("artifacts/a", filename="artifacts/a\0b"),
        "is no path",
    ),
    "trailing space": (lambda z: z.put("artifacts/a ", b"x"), "is no path"),
    "folder": (lambda z: z.put("artifacts/a/", b""), "is no path"),
    "link": (
        lambda z: z.odd("artifacts/a", external_attr=(stat.S_IFLNK | 0o777) << 16),
        "is a link",
    ),
    "pipe": (
        lambda z: z.odd("artifacts/a", external_attr=stat.S_IFIFO << 16),
        "no plain file",
    ),
    "name twice": (lambda z: z.extra.append((NOTE, b"x")), "twice"),
    "file and folder": (lambda z: z.put(f"{NOTE}/a", b"x"), "xists"),
    "bomb": (lambda z: z.put("artifacts/a", b"0" * 150_000_000), "times its size"),
    "not listed": (
        lambda z: z.entries.update({"artifacts/a": b"x"}),
        "'artifacts/a' is not listed",
    ),
    "missing": (lambda z: z.entries.pop(NOTE), "note.txt' is not listed, or missing"),
    "other content": (
        lambda z: z.entries.update({NOTE: b"b note\n" * 100}),
        "another checksum",
    ),
    # The record.
    "run id": (lambda z: z.data["tags"].clear(), "'' is no id of a run"),
    "run id that climbs": (
        lambda z: z.tag("origin.run_id", "../../x"),
        "'../../x' is no id of a run",
    ),
    "run id in a filter": (
        lambda z: z.tag("origin.run_id", f"{RUN}' OR 'a' = 'a"),
        "is no id of a run",
    ),
    "child's run id": (
        lambda z: z.record["children"][0]["run"].update(data={}),
        "'' is no id of a run",
    ),
    "metric is no number": (
        lambda z: z.data["metrics"][0].update(value="high"),
        "Couldn't parse float: high at Run.data.metrics[0].value",
    ),
    "metric's step": (
        lambda z: z.data["metrics"][0].update(step=0.5),
        "Couldn't parse integer: 0.5 at Run.data.metrics[0].step",
    ),
    "metric's large step": (
        lambda z: z.data["metrics"][0].update(step=2**70),
        "Value out of range",
    ),
    "time": (lambda z: z.info.update(start_time=10**18), "is no time of a run"),
    "time before all": (lambda z: z.info.update(end_time=-1), "-1 is no time"),
    "status": (lambda z: z.info.update(status="RUNNING"), "its run is RUNNING"),
    "no status": (lambda z: z.info.update(status="DONE"), "DONE"),
    "dataset": (
        lambda z: z.record["run"].update(
            inputs={"dataset_inputs": [{"dataset": {"name": "a", "digest": "1" * 37}}]}
        ),
        "'a' is no dataset",
    ),
    "model's name": (lambda z: z.model.update(name="../x"), "is no name of a model"),
    "model is missing": (lambda z: z.record["models"].clear(), "a model is missing"),
    "version's name": (
        lambda z: z.model.update(
            tags=[{"key": "origin.versions", "value": '[{"name": "a/../b"}]'}]
        ),
        "'a/../b' is no name of a model",
    ),
    "versions": (
        lambda z: z.model.update(tags=[{"key": "origin.versions", "value": "[1"}]),
        "delimiter",
    ),
    "climbing tag": (lambda z: z.tag("../x", ""), "is no name that MLflow takes"),
    "long parameter": (
        lambda z: z.data["params"][0].update(value="1" * 6001),
        "'C' is over 6000 characters",
    ),
    "tag is no text": (lambda z: z.tag("t", 1), "expected string"),
    "half a character": (lambda z: z.tag("t", "\ud800"), "surrogate"),
    "name that steers a terminal": (
        lambda z: z.tag("a\n\x1b[2J", ""),
        "is no name that MLflow takes",
    ),
    "parent in the receiver's store": (
        lambda z: z.tag("mlflow.parentRunId", RUN),
        "leads into another store",
    ),
    "unknown field": (lambda z: z.info.update(code="x"), 'no field named "code"'),
    "child that is no run": (lambda z: z.record.update(children=[1]), "subscriptable"),
    # The model.
    "code_paths": (
        lambda z: z.ask("sklearn", code="code"),
        "code = code in its flavour sklearn",
    ),
    "code of pyfunc": (
        lambda z: z.ask("python_function", code="code"),
        "code = code in its flavour python_function",
    ),
    "loader": (
        lambda z: z.ask("python_function", loader_module="os"),
        "loader_module = os in its flavour python_function",
    ),
    "other flavour": (
        lambda z: z.describe(lambda a: a["flavors"].update(pytorch={"data": "x"})),
        "the flavour pytorch",
    ),
    "pickle": (
        lambda z: z.ask("sklearn", serialization_format="cloudpickle"),
        "serialization_format = cloudpickle",
    ),
    "pickle by leaving the format out": (
        lambda z: z.describe(lambda a: flavours(a)[1].pop("serialization_format")),
        "serialization_format = None",
    ),
    "trust in types": (
        lambda z: z.ask("sklearn", skops_trusted_types=["os.system"]),
        "skops_trusted_types = ['os.system']",
    ),
    "type": (
        lambda z: z.put("model0/model.skops", dangerous()),
        "the type posix.system",
    ),
    "no skops file": (
        lambda z: z.put("model0/model.skops", b"x"),
        "File is not a zip file",
    ),
    "bomb in skops": (
        lambda z: z.put("model0/model.skops", inner_bomb()),
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
        lambda z: z.ask("python_function", model_path="other.pkl"),
        "model_path = other.pkl",
    ),
    "method": (
        lambda z: z.ask("python_function", predict_fn="fit"),
        "predict_fn = fit",
    ),
    "aliases": (
        lambda z: z.put("model0/MLmodel", b"a: &a [1]\nflavors: {x: *a}\n"),
        "refers to itself",
    ),
    "tags of Python": (
        lambda z: z.put("model0/MLmodel", b"a: !!python/object/apply:os.getpid []\n"),
        "could not determine a constructor",
    ),
    "no flavours": (
        lambda z: z.put("model0/MLmodel", b"flavors: 3\n"),
        "'int'",
    ),
    "model among artifacts": (
        lambda z: z.describe(lambda a: None, "artifacts/a/mlmodel"),
        "another file than model.skops",
    ),
}


def refusal(tracking, file: Path, folder: Path, **options) -> str:
    """Return the line that refuses a file, of which nothing was written elsewhere."""
    folder.mkdir()
    before = set(folder.parent.rglob("*"))
    with pytest.raises(tracking.commands.project_runs.CommandError) as caught:
        tracking.commands.archive.unpack(file, folder, **options)
    written = set(folder.parent.rglob("*")) - before
    assert all(path.is_relative_to(folder) for path in written)
    assert caught.value.message.isprintable()
    assert caught.value.message.startswith(f"{file} is refused: ")
    return caught.value.message


def test_a_good_file_is_taken(tracking, good, tmp_path):
    Zip(good).write(tmp_path / "good.zip")
    folder = tmp_path / "folder"
    folder.mkdir()
    (record,) = tracking.commands.archive.unpack(tmp_path / "good.zip", folder)
    assert record.run.data.metrics[0].value == 0.5
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in files(folder)}
    assert found == {k: v for k, v in good.items() if k != "record.json"}


def test_a_file_of_the_first_format_is_taken(tracking, good, tmp_path):
    made = Zip(good)
    (record,) = made.listed.pop("records")
    made.listed |= {"format": 1, "record": record}
    made.write(tmp_path / "old.zip")
    (tmp_path / "folder").mkdir()
    (found,) = tracking.commands.archive.unpack(
        tmp_path / "old.zip", tmp_path / "folder"
    )
    assert found.folder == tmp_path / "folder"
    assert found.run.data.metrics[0].value == 0.5


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused(tracking, good, tmp_path, name):
    change, line = HOSTILE[name]
    made = Zip(good)
    change(made)
    made.write(tmp_path / "bad.zip")
    assert line in refusal(tracking, tmp_path / "bad.zip", tmp_path / "folder")


MODELS = list(HOSTILE)[list(HOSTILE).index("code_paths") :]


@pytest.mark.parametrize("name", [*MODELS, "climbing path", "link", "other content"])
def test_trust_takes_models_and_nothing_else(tracking, good, tmp_path, name):
    change, line = HOSTILE[name]
    made = Zip(good)
    change(made)
    made.write(tmp_path / "bad.zip")
    if name not in MODELS:
        assert line in refusal(
            tracking, tmp_path / "bad.zip", tmp_path / "folder", trust=True
        )
    else:
        (tmp_path / "folder").mkdir()
        tracking.commands.archive.unpack(
            tmp_path / "bad.zip", tmp_path / "folder", trust=True
        )


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
def test_a_damaged_file_is_refused(tracking, good, tmp_path, name):
    Zip(good).write(tmp_path / "good.zip")
    data = DAMAGES[name]((tmp_path / "good.zip").read_bytes())
    (tmp_path / "bad.zip").write_bytes(data)
    refusal(tracking, tmp_path / "bad.zip", tmp_path / "folder")


names = st.text(st.sampled_from("a.\\/: ~C\0\nü"), max_size=12) | st.text(max_size=8)


@settings(deadline=None)
@given(names)
def test_a_path_that_is_taken_stays_within_its_folder_on_every_system(
    tracking_package, name
):
    if not tracking_package.commands.archive.PATH.fullmatch(name):
        return
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(name)
        assert not path.is_absolute() and not path.drive and not path.root
        assert ".." not in path.parts and "/".join(path.parts) == name
    assert os.path.normpath(name) == name


@settings(max_examples=50, deadline=None)
@given(st.lists(names, max_size=3))
def test_nothing_is_unpacked_outside_of_the_folder(
    tracking_package, good, tmp_path_factory, paths
):
    base = tmp_path_factory.mktemp("paths")
    made = Zip(good)
    for path in paths:
        try:
            made.put(f"artifacts/{path}", b"x")
            made.write(base / "made.zip")
        except (UnicodeError, ValueError):
            return  # no such file can be made
    made.write(base / "made.zip")
    (base / "folder").mkdir()
    try:
        tracking_package.commands.archive.unpack(base / "made.zip", base / "folder")
    except tracking_package.commands.project_runs.CommandError:
        pass
    assert {path.name for path in base.iterdir()} == {"made.zip", "folder"}


def test_a_file_whose_name_is_no_path_everywhere_is_not_packed(tracking, tmp_path):
    folder = tmp_path / "record"
    folder.mkdir()
    (folder / "a\\b").touch()
    with pytest.raises(
        tracking.commands.project_runs.CommandError, match="is no path on every system"
    ):
        tracking.commands.archive.pack([{}], folder, tmp_path / "run.zip")
