"""Configuration that cannot work, and models of other environments."""

import importlib.util
import re
import sys
from types import SimpleNamespace

import mlflow
import pandas as pd
import pytest
from click import ClickException
from kedro.pipeline import Node, Pipeline
from sklearn.linear_model import LogisticRegression

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


@pytest.fixture
def tracking(tracking, project):
    mlflow.set_tracking_uri(f"sqlite:///{project / 'mlflow.db'}")
    return tracking


ROWS = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0], "y": ["a", "a", "b", "b"]})


@pytest.fixture
def log(tracking, module):
    portable = module("tracking.models").sklearn_log_kwargs

    def log_model(C=1.0):
        model = LogisticRegression(C=C).fit(ROWS[["x"]], ROWS["y"])
        with mlflow.start_run():
            logged = mlflow.sklearn.log_model(
                model, name="model", input_example=ROWS[["x"]], **portable(model)
            )
        return logged.model_uri

    return log_model


@pytest.fixture
def promote(tracking):
    options = tracking.promotion.PromoteOptions("iris", "accuracy")

    def measure(model, rows):
        return {"accuracy": model.score(rows[["x"]], rows["y"])}

    def call(uri, measure=measure):
        with mlflow.start_run():
            return tracking.promotion.promote(uri, {}, measure, ROWS, options)

    return call


def test_what_was_reported_of_another_model_does_not_decide(log, tracking, caplog):
    options = tracking.promotion.PromoteOptions("iris", "accuracy")
    uri = log()
    with mlflow.start_run():
        decision = tracking.promotion.promote(
            uri, {"accuracy": 1.0}, lambda *_: {"accuracy": 0.5}, ROWS, options
        )
    assert decision["score"] == 0.5
    assert "The reported accuracy, 1, is not that of the model models:/" in caplog.text


def test_a_name_with_a_quote_is_registered(log, tracking, runs_of):
    options = tracking.promotion.PromoteOptions("it's iris", "accuracy")
    for uri in (log(), log()):
        with mlflow.start_run(run_name="promotes"):
            tracking.promotion.promote(
                uri, {}, lambda *_: {"accuracy": 0.5}, ROWS, options
            )
    runs = [run for run in runs_of() if run.name == "promotes"]
    versions = [run.tags["registry.version"] for run in runs]
    assert versions == ["models:/it's iris/1", "models:/it's iris/2"]


def pretend_old(monkeypatch, tracking, version="1.7.0"):
    """Have this environment be of another version of scikit-learn."""
    monkeypatch.setattr(tracking.models.metadata, "version", lambda name: version)


def test_a_champion_that_fails_by_its_environment_stays(
    log, promote, tracking, monkeypatch
):
    promote(log())
    second = log(2.0)
    champion = LogisticRegression.predict

    def predict(self, X):
        if self.C == 1.0:
            raise AttributeError("no attribute 'multi_class'")
        return champion(self, X)

    monkeypatch.setattr(LogisticRegression, "predict", predict)
    pretend_old(monkeypatch, tracking)
    with pytest.raises(ClickException) as caught:
        promote(second)
    said = caught.value.message
    assert "version 1 of iris" in said and "multi_class" in said
    assert re.search(r"scikit-learn 1\.\d+\.\d+, here is 1.7.0", said)
    assert re.search(r"pip install scikit-learn==1\.\d+\.\d+", said)
    assert tracking.registry.champion_version("iris") == "1"


@pytest.mark.parametrize(
    "error", [MemoryError("no memory"), OSError("disk"), AttributeError("x")]
)
def test_what_is_not_about_the_data_fails_the_node(log, promote, tracking, error):
    promote(log())
    second, count = log(), []

    def measure(model, rows):
        count.append(model)
        if len(count) == 2:  # the champion
            raise error
        return {"accuracy": 1.0}

    with pytest.raises(ClickException, match="The champion, version 1, cannot be meas"):
        promote(second, measure)
    assert tracking.registry.champion_version("iris") == "1"


def test_data_that_do_not_fit_the_champion_replace_it(log, promote, tracking):
    promote(log())
    second, count = log(), []

    def measure(model, rows):
        count.append(model)
        if len(count) == 2:
            raise ValueError("The feature names should match those that were passed")
        return {"accuracy": 1.0}

    decision = promote(second, measure)
    assert decision["decision"] == "champion"
    assert "version 1, not comparable: The feature names" in decision["against"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_champion_whose_metric_is_no_number_is_not_comparable(
    log, promote, tracking, value
):
    promote(log())
    second, values = log(), iter([0.5, value])
    decision = promote(second, lambda model, rows: {"accuracy": next(values)})
    assert f"not comparable: its accuracy is {value}" in decision["against"]
    third = log()
    with pytest.raises(
        ClickException, match=f"accuracy is {value}, which is no number"
    ):
        promote(third, lambda model, rows: {"accuracy": value})


def test_scoring_names_the_versions_of_a_model_that_does_not_work_here(
    log, tracking, monkeypatch
):
    uri = log()
    pretend_old(monkeypatch, tracking)
    assert tracking.models.load_model(uri)  # another version that works

    def predict(self, X):
        raise AttributeError("no attribute 'multi_class'")

    monkeypatch.setattr(LogisticRegression, "predict", predict)
    with pytest.raises(ClickException) as caught:
        tracking.models.load_model(uri)
    assert "does not work here" in caught.value.message
    assert "pip install scikit-learn==" in caught.value.message


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
