"""``tracking.commands.replay``: all but the pipeline's own process."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from kedro.framework.cli import project as kedro_cli
from runs import environment_file, git, recorded, tagged
from sklearn.linear_model import LogisticRegression

DATA = "data/01_raw/iris.csv"
COMMIT = "mlflow.source.git.commit"


@pytest.fixture
def project(trained_project) -> Path:
    """Return a project in git with one training; MLflow is led to its store."""
    return trained_project


# What differs here


def test_a_dry_run_says_what_differs_and_runs_nothing(
    old_run, project, kedro_in_process, module
):
    words = ("replay", old_run.info.run_id[:8], "--dry-run")
    done = kedro_in_process(*words, folder=project)
    assert done.exit_code == 0
    assert done.stdout == "Here everything is as it was then.\n"
    (project / "new.py").write_text("new = 1\n")
    _, digest = module("tracking.code").uncommitted_changes(project)
    done = kedro_in_process(*words, folder=project)
    header, line = done.stdout.splitlines()
    assert header.split() == ["here", "then"]
    assert line.split() == ["code", "diff", digest, "none"]
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message=second")
    done = kedro_in_process(*words, folder=project)
    header, line = done.stdout.splitlines()
    assert done.exit_code == 0 and header.split() == ["here", "then"]
    assert line.split()[:2] == ["code", "commit"]
    assert len(recorded(project)) == 1


@pytest.mark.slow
def test_a_replay_that_cannot_be_says_so_before_it_computes(
    old_run, project, kedro_in_process
):
    git(project, "rm", "--quiet", "--cached", DATA)
    (project / ".git" / "info" / "exclude").write_text("*.csv\n")
    git(project, "commit", "--quiet", "--all", "--message=data outside of git")
    tagged(old_run.info.run_id, **{COMMIT: git(project, "rev-parse", "HEAD")})

    def refusal(*words: str) -> str:
        done = kedro_in_process("replay", old_run.info.run_id, *words, folder=project)
        assert done.exit_code == 2
        return done.stderr.splitlines()[-1]

    data = project / DATA
    data.write_text(data.read_text() + "5.1,3.5,1.4,0.2,setosa\n")
    for words in ((), ("--dry-run",)):
        assert f"An input is not here as it was: {DATA}." in refusal(*words)
    data.unlink()
    assert f"An input is not here as it was: {DATA}." in refusal()
    shutil.rmtree(project / ".git")
    git(project, "init", "--quiet")
    assert "is not in this repository: fetch it" in refusal()
    tagged(old_run.info.run_id, **{"origin.run_id": "0" * 32})
    assert "was received" in refusal()
    assert len(recorded(project)) == 1


# Variations


def test_parameters_are_put_in_the_place_of_the_recorded_ones(tracking):
    recorded = {
        "env": "local",
        "runner": "ParallelRunner",
        "runner_params": {"max_workers": 2},
        "params": {"model_options.C": 0.1, "split_options": {"test_size": 0.3}},
    }
    changed = {
        "params": {"model_options": {"C": 2.0}, "new": {"a": 1}},
        "runner": "ThreadRunner",
        "pipelines": "data_engineering",
    }
    assert tracking.commands.replay.vary(recorded, changed) == {
        "env": "local",
        "runner": "ThreadRunner",
        "pipelines": "data_engineering",
        "params": {
            "model_options": {"C": 2.0},
            "split_options": {"test_size": 0.3},
            "new": {"a": 1},
        },
    }
    assert tracking.commands.replay.vary(recorded, {}) == recorded
    only = {"to_nodes": "split_data"}
    assert tracking.commands.replay.vary(recorded, only) == recorded | only


def test_a_variation_says_of_which_run_it_is_and_of_what(tracking, old_run):
    changed = {
        "params": {"a": {"C": 0.5}, "token": "hunter2"},
        "runner": "ThreadRunner",
    }
    tags = tracking.commands.replay.repetition_tags
    assert tags("1" * 32, {}) == {"replay.of": "1" * 32}
    assert tags("1" * 32, changed) == {
        "variation.of": "1" * 32,
        "variation.by": "'--params=a.C=0.5,token=***' --runner=ThreadRunner",
    }


def test_what_a_variation_has_changed_comes_first(tracking, old_run, project):
    one, other = log(1.0, 0.5), log(2.0, 0.75)
    other = tagged(other.info.run_id, **{"registry.decision": "champion"})
    rows = tracking.commands.replay.compare(one, other, True)
    assert rows[:2] == [("parameters C", "1.0", "2.0"), ("accuracy", "0.5", "0.75")]
    assert rows[2][0] == "model model" and len(rows) == 4
    assert rows[3] == ("promotion", "-", "champion")


def test_a_dry_run_of_a_variation_runs_nothing(old_run, project, kedro_in_process):
    words = ("--params=model_options.C=0.5,a.b=x", "--to-nodes=train_model")
    done = kedro_in_process("replay", "last", *words, "--dry-run", folder=project)
    assert done.exit_code == 0, done.output
    assert done.stdout == "Here everything is as it was then.\n"
    done = kedro_in_process("replay", "last", "--params=C", folder=project)
    assert done.exit_code == 2
    assert "must contain a key and a value" in done.stderr.splitlines()[-1]
    assert len(recorded(project)) == 1


# Another folder of configuration, and arguments of runners


def test_what_was_typed_is_recorded(project, kedro_in_process, monkeypatch):
    kedro_in_process("runs", folder=project)  # the package is known to Kedro now
    shutil.copytree(project / "conf", project / "other" / "conf")
    monkeypatch.chdir(project)
    words = ("--pipelines=data_engineering", "--conf-source=other/conf")
    runner = ("--runner=ThreadRunner", "--runner-params=max_workers=2")
    done = CliRunner().invoke(kedro_cli.run, [*words, *runner])
    assert done.exit_code == 0, done.output
    _, new = recorded(project)
    about = json.loads(environment_file(mlflow.get_run(new.id), "run.json").read_text())
    assert about["run"] == {
        "env": "local",
        "runner": "ThreadRunner",
        "pipelines": "data_engineering",
        "runner_params": {"max_workers": 2},
        "conf_source": "other/conf",
    }
    assert new.tags["kedro.conf_source"] == "other/conf"
    assert "kedro.runner_params" not in new.tags


# Straight from a file


@pytest.mark.slow
def test_a_file_is_received_before_it_is_replayed(
    old_run, project, kedro_in_process, tmp_path, empty_store
):
    file, uri = tmp_path / "run.zip", f"sqlite:///{tmp_path}/other.db"
    done = kedro_in_process("share", "last", "-o", file, folder=project)
    assert done.exit_code == 0, done.output
    shutil.copy(empty_store, tmp_path / "other.db")

    def replay(given, *words: str):
        env = {"MLFLOW_TRACKING_URI": uri}
        return kedro_in_process("replay", given, *words, folder=project, **env)

    done = replay(file)
    assert done.exit_code == 2
    assert "is somebody else's code: receive it and look, or" in done.stderr
    assert recorded(tmp_path, "other.db") == []
    done = replay(tmp_path / "none.zip", "--trust")
    assert done.exit_code == 2 and "There is no file" in done.stderr
    for _ in range(2):
        done = replay(file, "--trust", "--dry-run")
        assert done.exit_code == 0, done.output
        assert done.stdout.endswith("Here everything is as it was then.\n")
        (new,) = recorded(tmp_path, "other.db")
        assert new.tags["origin.run_id"] == old_run.info.run_id
    done = replay(old_run.info.run_id[:8], "--trust", "--dry-run")  # by its id there
    assert done.exit_code == 0, done.output


def test_a_file_of_several_runs_is_not_guessed_about(
    old_run, project, kedro_in_process, tmp_path
):
    log(1.0, 0.5)
    words = ("share", "--experiment", "-o", tmp_path / "two.zip")
    assert kedro_in_process(*words, folder=project).exit_code == 0
    done = kedro_in_process("replay", tmp_path / "two.zip", "--trust", folder=project)
    assert done.exit_code == 2
    assert "holds 2 runs: receive it, then name one." in done.stderr


# What both have come to


def log(strength: float, metric: float):
    """Log a model and a metric to a run of its own; return the run."""
    model = LogisticRegression(C=strength).fit([[0.0], [1.0], [2.0]], [0, 1, 1])
    options = {"serialization_format": "skops", "pip_requirements": ["scikit-learn"]}
    with mlflow.start_run(experiment_id="1") as active:
        mlflow.log_metric("accuracy", metric)
        mlflow.log_param("C", strength)
        mlflow.sklearn.log_model(model, name="model", **options)
    return mlflow.get_run(active.info.run_id)


def test_equal_models_and_metrics_are_equal_wherever_they_were_logged(
    tracking, old_run, project
):
    assert old_run.info.experiment_id == "1"
    one, same, other = log(1.0, 0.5), log(1.0, 0.5), log(2.0, 0.75)
    rows = tracking.commands.replay.compare(one, same, False)
    fingerprint = rows[1][1]
    assert re.fullmatch("[0-9a-f]{32}", fingerprint)
    assert rows == [
        ("accuracy", "0.5", "0.5"),
        ("model model", fingerprint, fingerprint),
    ]
    parameter, metric, model = tracking.commands.replay.compare(one, other, False)
    assert metric == ("accuracy", "0.5", "0.75")
    assert model[0] == "model model" and model[1] == fingerprint != model[2]
    assert parameter == ("parameters C", "1.0", "2.0")


def test_what_only_one_has_is_told(tracking, old_run, project):
    with mlflow.start_run(experiment_id="1") as active:
        mlflow.log_metric("new", 1.0)
    new = mlflow.get_run(active.info.run_id)
    rows = tracking.commands.replay.compare(old_run, new, False)
    found = {name: values for name, *values in rows}
    assert found["new"] == ["-", "1.0"]
    assert found["accuracy"][1] == "-" and found["model model"][1] == "-"
    assert found["run pipeline"] == ["__default__", "?"]
    assert found["data iris"][1] == "-"


def test_what_mlflow_run_has_logged_of_mlproject_is_no_difference(tracking, old_run):
    mlflow.MlflowClient().set_tag(
        old_run.info.run_id, "mlflow.project.entryPoint", "main"
    )
    mlflow.MlflowClient().log_param(old_run.info.run_id, "C", "1.0")
    launched = mlflow.get_run(old_run.info.run_id)
    rows = tracking.commands.replay.compare(launched, old_run, False)
    assert all(one == other for _, one, other in rows)
    rows = tracking.commands.replay.compare(old_run, launched, False)
    assert ("parameters C", "-", "1.0") in rows


def test_files_that_say_when_and_where_do_not_count(tracking, tmp_path):
    for name in ("MLmodel", "conda.yaml", "requirements.txt"):
        (file := tmp_path / name).write_text("now and here")
        assert tracking.commands.replay.fingerprint_file(file) == b""
    (file := tmp_path / "model.pkl").write_bytes(b"fitted")
    assert tracking.commands.replay.fingerprint_file(file) == b"fitted"


def test_ids_and_names_in_a_model_do_not_count(tracking, tmp_path):
    found = []
    for number, content in ((1, b"a"), (2, b"a"), (3, b"b")):
        file = tmp_path / f"{number}.skops"
        with zipfile.ZipFile(file, "w") as made:
            schema = {"__id__": number, "file": f"{number}.npy"}
            made.writestr("schema.json", json.dumps(schema))
            made.writestr(f"{number}.npy", content)
        found.append(tracking.commands.replay.fingerprint_file(file))
    assert found[0] == found[1] != found[2]
