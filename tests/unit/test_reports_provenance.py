"""What is recorded of a run: secrets, code, artifacts, names, inputs."""

import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import fsspec
import mlflow
import pandas as pd
import pytest
import yaml
from kedro.pipeline import Node, Pipeline
from runs import PACKAGE, git

SECRET = "V01"
NOTHING_RECORDED: dict = {"run": {}, "inputs": {}}  # options and inputs of a run


def commit(folder: Path) -> None:
    """Make a repository of a folder, with one commit."""
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=first")


@pytest.fixture
def logged(project, runs_of):
    """Return a function that returns the last run and the folder of its artifacts."""

    def last():
        one = runs_of()[-1]
        return one, project / "mlruns" / PACKAGE / one.id / "artifacts"

    return last


@pytest.fixture
def said():
    """Return a function that returns what the tracking modules have logged.

    Kedro's configuration of logging, in the first session, removes handlers.
    """
    lines: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        lines.append(record.getMessage())
        return True

    modules = ("artifacts", "client", "code", "datasets")
    names = (f"{PACKAGE}.tracking.{name}" for name in modules)
    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.addFilter(keep)
    yield lambda: "\n".join(lines)
    for logger in loggers:
        logger.removeFilter(keep)


def catalog(project: Path, **entries) -> None:
    """Put entries into the project's catalog."""
    (project / "conf" / "base" / "catalog_more.yml").write_text(yaml.safe_dump(entries))


def asked(artifact_path: str = "kept", **more) -> dict:
    return {"metadata": {"mlflow": {"artifact_path": artifact_path, **more}}}


def table() -> pd.DataFrame:
    return pd.DataFrame({"a": [1, 2]})


def everything_in(folder: Path) -> str:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return "".join(path.read_text("utf-8", "replace") for path in files)


# Secrets of a whole run


def test_no_secret_of_a_run_is_recorded(project, session_run, logged, said):
    commit(project)
    (project / "conf" / "base" / "extra.yml").write_text("db:\n  password: V01\n")
    (project / "netrc").write_text("machine h login me password V01\n")
    (project / "deploy.sh").write_text('API_TOKEN="V01"\n')
    (project / "conf" / "base" / "parameters_more.yml").write_text(
        "service: {api_key: V01, hosts: [{dbPassword: V01}, 'http://me:V01@h']}\n"
    )
    entry = {"type": "yaml.YAMLDataset", "filepath": "conf/base/parameters_more.yml"}
    catalog(project, settings=entry | asked())

    def fail(service, settings):
        raise ValueError(f"no answer from http://me:V01@host: {service}")

    session = Pipeline([Node(fail, ["params:service", "settings"], "out", name="n")])
    with pytest.raises(ValueError):
        session_run(session, runtime_params={"openai_key": "V01"})
    one, folder = logged()
    assert one.params["service.api_key"] == one.params["openai_key"] == "***"
    assert "***" in one.params["service.hosts"]
    assert (folder / "kept" / "parameters_more.yml").exists()
    assert "parameters_more.yml is logged without the secrets in it." in said()
    assert one.tags["git.diff"] == "masked: it holds what looks like credentials"
    assert SECRET not in everything_in(folder)
    assert SECRET not in json.dumps([one.params, one.tags])


def test_a_diff_without_secrets_can_be_replayed(module, project):
    commit(project)
    code = "token = tokenizer(text)\nsort_key = 'name'\n"
    (project / "new.py").write_text(code)
    changes, digest = module("tracking.code").uncommitted_changes(project)
    assert code.splitlines()[0].encode() in changes and len(digest) == 32


def test_what_an_older_run_shows_is_not_shared(
    project, session_run, runs_of, tracking, tmp_path
):
    commit(project)
    (project / "new.py").write_text("x = 1\n")
    session_run(Pipeline([Node(lambda: 1, None, "out", name="n")]))
    run_id = runs_of()[-1].id
    client = mlflow.MlflowClient()
    client.log_param(run_id, "dbPassword", "V01")
    folder = project / "mlruns" / PACKAGE / run_id / "artifacts" / "environment"
    changes = folder / "code.diff"
    changes.write_text(changes.read_text().replace("x = 1", "password = 'V01'"))
    about = tracking.commands.export.read_record(
        client.get_run(run_id), tmp_path / "new", project, False
    )
    assert SECRET not in json.dumps(about) + everything_in(tmp_path / "new")
    tags = tracking.commands.record.by_key(
        tracking.commands.record.parse_record(about, tmp_path).run.data.tags
    )
    assert tags["git.diff"].startswith("masked: ")


# Git


def test_the_diff_is_of_the_projects_folder(module, tmp_path):
    project = tmp_path / "apps" / "iris"
    (project / "conf" / "local").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    for name in ("other/a.py", "apps/iris/a.py"):
        (tmp_path / name).write_text("a = 1\n")
    commit(tmp_path)
    code = module("tracking.code")
    state = code.git_state(project)
    assert state["git.dirty"] == "false" and "git.dirty_outside" not in state
    (tmp_path / "other" / "a.py").write_text("a = 2\n")
    (tmp_path / "apps" / "new.py").write_text("password = 'V01'\n")
    state = code.git_state(project)
    assert (state["git.dirty"], state["git.dirty_outside"]) == ("false", "true")
    (project / "a.py").write_text("a = 3\n")
    (project / "conf" / "local" / "x.yml").write_text("password: V01\n")
    assert code.git_state(project)["git.dirty"] == "true"
    git(tmp_path, "config", "diff.relative", "true")
    changes, _ = code.uncommitted_changes(project)
    assert [line for line in changes.decode().splitlines() if "diff --git" in line] == [
        "diff --git a/apps/iris/a.py b/apps/iris/a.py"
    ]


@pytest.fixture
def of_another_owner(project):
    """Return a project whose repository git refuses to read."""
    commit(project)
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can give a repository away")
    for path in (project, project / ".git"):
        shutil.chown(path, 65534, 65534)
    words = ("git", "-C", str(project), "status")
    if subprocess.run(words, capture_output=True).returncode == 0:
        pytest.skip("git trusts this folder")
    return project


def test_gits_refusal_is_said_once(
    of_another_owner, session_run, logged, module, monkeypatch, said, capsys
):
    session_run(Pipeline([Node(lambda: 1, None, "out", name="n")]))
    one, _ = logged()
    refusal = one.tags["git.unavailable"]
    assert "dubious ownership" in refusal
    assert f"git config --global --add safe.directory {of_another_owner}" in refusal
    assert said().count("dubious") == 1 and one.status == "FINISHED"
    replay, found = module("tracking.commands.checkout"), mlflow.get_run(one.id)
    copy = of_another_owner.parent / "copy"
    with replay.recorded_code(found, NOTHING_RECORDED, of_another_owner, copy):
        assert "made where git refused (detected dubious" in capsys.readouterr().out
    command = [sys.executable, of_another_owner / "check.py", "--offline"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "detected dubious ownership" in done.stdout


@pytest.mark.parametrize(
    "how, why",
    [
        ("no git", "git is not installed"),
        ("dubious", "detected dubious ownership"),
        ("unknown", "is not in this repository"),
    ],
)
def test_a_replay_says_why_a_commit_cannot_be_had(
    project, module, monkeypatch, request, tmp_path, how, why
):
    if how == "dubious":
        request.getfixturevalue("of_another_owner")
    else:
        commit(project)
    if how == "no git":
        monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    mlflow.set_tracking_uri(f"sqlite:///{project}/mlflow.db")
    with mlflow.start_run(tags={"mlflow.source.git.commit": "0123456789ab" * 3}) as one:
        pass
    replay, trouble = (
        module("tracking.commands.checkout"),
        module("tracking.commands.project_runs").CommandError,
    )
    with pytest.raises(trouble, match=why):
        with replay.recorded_code(
            mlflow.get_run(one.info.run_id),
            NOTHING_RECORDED,
            project,
            tmp_path / "c",
        ):
            pass


@pytest.mark.parametrize(
    "broken", ["no commit", "broken worktree", "no git", "outside"]
)
def test_other_reasons_for_no_commit(tracking, project, monkeypatch, broken, said):
    if broken == "no commit":
        git(project, "init", "--quiet")
    elif broken == "broken worktree":
        (project / ".git").write_text("gitdir: /not/there\n")
    elif broken == "no git":
        (project / ".git").mkdir()
        monkeypatch.setenv("PATH", "")
    state = tracking.code.git_state(project)
    reasons = {
        "broken worktree": "not a git repository: /not/there",
        "no git": "git is not installed",
    }
    if reason := reasons.get(broken):
        assert state == {"git.unavailable": reason} and reason in said()
    else:
        assert state == {} and not said()


# Artifacts that the catalog asks for


def test_artifacts_of_any_dataset_are_logged(project, session_run, logged):
    csv = {"type": "pandas.CSVDataset"}
    folder = project / "data" / "parts"
    catalog(
        project,
        cached={
            "type": "CachedDataset",
            "dataset": csv | {"filepath": "data/cached.csv"},
            **asked(),
        },
        cached_within={
            "type": "kedro.io.CachedDataset",
            "dataset": csv | {"filepath": "data/within.csv"} | asked(),
        },
        cached_versions={
            "type": "CachedDataset",
            "versioned": True,
            "dataset": csv | {"filepath": "data/versions.csv"},
            **asked(),
        },
        parts={
            "type": "partitions.PartitionedDataset",
            "path": str(folder),
            "dataset": csv,
            "filename_suffix": ".csv",
            **asked(),
        },
        remote=csv | {"filepath": "memory://bucket/remote.csv"} | asked(),
        remote_parts={
            "type": "partitions.PartitionedDataset",
            "path": "memory:///bucket/parts",
            "dataset": "pandas.CSVDataset",
            **asked("deep/er"),
        },
        remote_versions=csv
        | {"filepath": "memory://bucket/v.csv", "versioned": True}
        | asked(),
        nowhere={"type": "MemoryDataset"} | asked(),
        small=csv | {"filepath": "memory://bucket/small.csv"} | asked(max_mb=0),
    )
    folder.mkdir(parents=True)
    (folder / "old.csv").write_text("a\n0\n")
    (folder / "again.csv").write_text("a\n0\n")
    for name in ("old.csv", "again.csv"):
        os.utime(folder / name, (1, 1))
    names = ("cached", "cached_within", "cached_versions", "remote", "remote_versions")
    nodes = [
        Node(table, None, name, name=name) for name in (*names, "small", "nowhere")
    ]
    for name in ("parts", "remote_parts"):
        node = Node(
            lambda: {"again": table(), "north/new": table()}, None, name, name=name
        )
        nodes.append(node)
    session_run(Pipeline(nodes))
    one, artifacts = logged()
    files = {
        path.relative_to(artifacts).as_posix() for path in artifacts.rglob("*.csv")
    }
    assert files == {
        "kept/cached.csv",
        "kept/within.csv",
        "kept/versions.csv",
        "kept/parts/again.csv",
        "kept/parts/north/new.csv",
        "kept/remote.csv",
        "kept/v.csv",
    }
    assert (artifacts / "deep" / "er" / "parts" / "north" / "new").exists()
    assert one.tags["record.missing"] == (
        "the artifact of nowhere: a MemoryDataset has no file to log"
    )
    assert one.status == "FINISHED"


def test_inputs_of_any_dataset_are_artifacts_too(project, session_run, logged):
    with fsspec.open("memory://in.csv", "w") as file:
        file.write("a\n1\n")
    (project / "data" / "in").mkdir()
    (project / "data" / "in" / "part.csv").write_text("a\n1\n")
    csv, iris = {"type": "pandas.CSVDataset"}, "data/01_raw/iris.csv"
    catalog(
        project,
        remote=csv | {"filepath": "memory://bucket/in.csv"} | asked(),
        parts={
            "type": "partitions.PartitionedDataset",
            "path": "data/in",
            "dataset": csv,
            **asked(),
        },
        cached={"type": "CachedDataset", "dataset": csv | {"filepath": iris}} | asked(),
    )
    inputs = ["remote", "parts", "cached"]
    session_run(Pipeline([Node(lambda *_: 1, inputs, "out", name="n")]))
    one, folder = logged()
    found = {p.relative_to(folder / "kept").as_posix() for p in folder.rglob("*.csv")}
    assert found == {"in.csv", "in/part.csv", "iris.csv"}
    written = json.loads((folder / "environment" / "run.json").read_text())
    assert list(written["inputs"]) == [iris]
    used = mlflow.get_run(one.id).inputs.dataset_inputs
    digests = {entry.dataset.name: entry.dataset.digest for entry in used}
    assert digests["cached"] == written["inputs"][iris]


def test_a_failed_run_logs_what_it_has_written(project, session_run, logged):
    with fsspec.open("memory://after.csv", "w") as file:
        file.write("of an earlier run\n")
    fsspec.filesystem("memory").store["/after.csv"].modified = pd.Timestamp(
        "2020-01-01", tz="UTC"
    ).to_pydatetime()
    csv = {"type": "pandas.CSVDataset"}
    catalog(
        project,
        before=csv | {"filepath": "memory://bucket/before.csv"} | asked(),
        after=csv | {"filepath": "memory://bucket/after.csv"} | asked(),
        never=csv | {"filepath": "data/never.csv"} | asked(),
    )

    def fail(before):
        raise ValueError("no")

    nodes = [Node(table, None, "before", name="one")]
    nodes += [Node(fail, "before", ["after", "never"], name="two")]
    with pytest.raises(ValueError):
        session_run(Pipeline(nodes))
    one, folder = logged()
    assert [path.name for path in (folder / "kept").iterdir()] == ["before.csv"]
    assert "record.missing" not in one.tags


def test_unknown_settings_are_named_at_the_start(project, session_run, said):
    csv = {"type": "pandas.CSVDataset", "filepath": "data/x.csv"}
    settings = {"artifact_folder": "kept", "max_mb": "ten", "colour": "red"}
    catalog(project, typo=csv | {"metadata": {"mlflow": settings}})
    session_run(Pipeline([Node(table, None, "typo", name="n")]))
    assert "typo: metadata: mlflow: artifact_folder: means nothing" in said()
    assert "did you mean artifact_path?" in said()
    assert "colour: means nothing; known: artifact_path, max_mb." in said()
    assert "max_mb: 'ten' is no number" in said()


# Names


def test_names_that_mlflow_refuses_are_cleaned(project, session_run, logged):
    file = {"filepath": "data/it.csv"}
    csv = {"type": "pandas.CSVDataset"} | file
    text = {"type": "text.TextDataset"} | file | asked()
    catalog(project, **{"it@pandas": csv, "it@text": text})
    session_run(Pipeline([Node(table, None, "it@pandas", name="n")]))
    first = logged()[0].id

    def measure(text):
        mlflow.set_tag("x", "y")
        sys.modules[f"{PACKAGE}.tracking"].log_metrics({"a@b": 1.0, "c:d/../e": 2.0})

    session_run(Pipeline([Node(measure, "it@text", None, name="n", namespace="x")]))
    one, folder = logged()
    assert one.status == "FINISHED"
    assert one.tags["data.it_text.run_id"] == first
    assert one.metrics == {"x.a_b": 1.0, "x.c_d/e": 2.0}
    assert (folder / "kept" / "it.csv").exists()


def test_an_input_without_digest_may_have_any_name(project, session_run, logged):
    catalog(project, **{"it@memory": {"type": "MemoryDataset", "data": {"a": 1}}})
    session_run(Pipeline([Node(lambda _: 1, "it@memory", "out", name="n")]))
    one, _ = logged()
    assert one.tags["data.it_memory.digest"].startswith("none: dict is neither")


# What only describes


def test_a_schema_over_mlflows_limit_is_left_out(project, session_run, logged, said):
    # A million characters: names of 60,000, which a Parquet file may have.
    wide = pd.DataFrame([range(20)], columns=[f"{n:060000}" for n in range(20)])
    wide.to_parquet(project / "data" / "wide.parquet")
    entry = {"type": "pandas.ParquetDataset", "filepath": "data/wide.parquet"}
    catalog(project, wide=entry)
    session_run(Pipeline([Node(lambda _: 1, "wide", "out", name="n")]))
    one, _ = logged()
    (used,) = mlflow.get_run(one.id).inputs.dataset_inputs
    assert used.dataset.name == "wide" and not used.dataset.schema
    assert "wide is logged without its schema" in said()
    assert "record.missing" not in one.tags


def test_an_input_that_cannot_be_described_stops_nothing(
    project, session_run, logged, said
):
    objects = {"type": "pickle.PickleDataset", "filepath": "memory://bucket/t.pkl"}
    catalog(project, table=objects, nowhere={"type": "MemoryDataset"} | asked())
    made = pd.DataFrame({"a": [[1], {2: 3}]})  # rows that cannot be hashed
    with fsspec.open("memory://t.pkl", "wb") as file:
        pickle.dump(made, file)
    session_run(Pipeline([Node(lambda _: 1, "table", "nowhere", name="n")]))
    one, _ = logged()
    assert one.status == "FINISHED"
    assert "lacks the input table: " in said()
    first, second = one.tags["record.missing"].split("; ")
    assert first.startswith("the input table: ")
    assert second == "the artifact of nowhere: a MemoryDataset has no file to log"
