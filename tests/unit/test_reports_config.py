"""Configuration that cannot work is refused before a run."""

import importlib.util
import re
import sys
from types import SimpleNamespace

import pytest
from click import ClickException
from kedro.pipeline import Node, Pipeline

ONE = Pipeline([Node(lambda: 1, None, "out", name="only")])


@pytest.fixture
def mlflow_yml(project):
    return project / "conf" / "base" / "mlflow.yml"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("tracking_url: x", "does not know tracking_url: did you mean tracking_uri?"),
        ("experiment: x", "does not know experiment: did you mean experiment_name?"),
        ("artifacts: x", "does not know artifacts: did you mean artifact_location?"),
        ("zzz: x", "does not know zzz: it knows tracking_uri, experiment_name, "),
        ("server: {}", "server (of the plugin kedro-mlflow)"),
        ("experiment_name: [a]", "experiment_name in mlflow.yml is ['a']: it must be"),
        ("tracking_uri: 5000", "tracking_uri in mlflow.yml is 5000: it must be a text"),
        (
            "lock_timeout: soon",
            "lock_timeout in mlflow.yml is 'soon': it must be a num",
        ),
    ],
)
def test_a_setting_that_mlflow_yml_does_not_have(session_run, mlflow_yml, line, said):
    name = line.partition(":")[0]
    kept = re.sub(rf"(?m)^{name}:.*\n", "", mlflow_yml.read_text())
    mlflow_yml.write_text(f"{kept}{line}\n")
    with pytest.raises(ClickException, match=re.escape(said)):
        session_run(ONE)


def test_a_relative_artifact_location_starts_at_the_project(
    session_run, runs_of, project, mlflow_yml, tmp_path, monkeypatch
):
    mlflow_yml.write_text("experiment_name: new\nartifact_location: kept/here\n")
    monkeypatch.chdir(tmp_path)
    session_run(ONE)
    assert runs_of()[0].artifacts == {
        "environment/packages.txt",
        "environment/run.json",
    }
    assert list((project / "kept" / "here").rglob("run.json"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "a/b"}, "promote_options.name: .*'/' or ':'"),
        ({"name": "a:b"}, "promote_options.name: .*'/' or ':'"),
        ({"name": ""}, "promote_options.name: "),
        ({"name": "../x"}, "promote_options.name: "),
        ({"name": "'\""}, "both kinds of quotes"),
        ({"better": "bigger"}, "promote_options.better is more or less, not 'bigger'"),
        ({"margin": "much"}, "promote_options.margin is no number: 'much'"),
    ],
)
def test_options_of_promotion_are_refused_before_a_run(
    session_run, runs_of, options, said, project
):
    with pytest.raises(ClickException, match=said):
        session_run(runtime_params={"promote_options": options})
    assert runs_of() == []
    assert not (project / "data" / "02_intermediate" / "train.parquet").exists()


def test_a_run_that_cannot_be_started_is_ended(session_run, runs_of, monkeypatch):
    if importlib.util.find_spec("psutil"):
        monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    with pytest.raises(
        ClickException, match="cannot start the run: .*psutil"
    ) as caught:
        session_run(ONE)
    assert "repair that store" not in caught.value.message
    assert [run.status for run in runs_of()] == ["FAILED"]


def test_another_plugin_that_records_is_named(
    session_run, tracking, tmp_path, monkeypatch, caplog
):
    about = tmp_path / "site" / "kedro_mlflow-2.0.3.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Name: kedro_mlflow\nVersion: 2.0.3\n")
    hooks = "[kedro.hooks]\nother_hooks = json:dumps\n"  # any object will do
    (about / "entry_points.txt").write_text(hooks)
    monkeypatch.syspath_prepend(about.parent)
    session_run(ONE)
    assert "The plugin kedro-mlflow is installed" in caplog.text
    assert 'DISABLE_HOOKS_FOR_PLUGINS = ("kedro_mlflow", "kedro-mlflow")' in caplog.text
    caplog.clear()
    disabled = {"DISABLE_HOOKS_FOR_PLUGINS": ("kedro_mlflow", "kedro-mlflow")}
    monkeypatch.setattr(tracking.config, "settings", SimpleNamespace(**disabled))
    tracking.config.warn_of_kedro_mlflow()
    assert not caplog.text
