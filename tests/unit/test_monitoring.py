"""``tracking.monitoring`` and the pipelines that watch the champion, in process."""

import json
import pickle
import sys
from functools import partial

import cloudpickle
import kedro.runner
import mlflow
import numpy as np
import pandas as pd
import pytest
from click import ClickException
from mlflow import MlflowClient
from runs import PACKAGE, recorded, run

FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
CHAMPION = f"models:/{PACKAGE}@champion"


@pytest.fixture
def flowers(trained_project):
    """Return 300 flowers as those of the training, with their species."""
    iris = pd.read_csv(trained_project / "data/01_raw/iris.csv")
    many = iris.sample(300, replace=True, random_state=0, ignore_index=True)
    return many.assign(flower=[f"{number:04}" for number in range(len(many))])


@pytest.fixture
def run_pipeline(module, session_in, trained_project):
    """Return a function that runs a pipeline and returns its MLflow run.

    Its pictures take half of the time: they are drawn where they are asked for.
    """

    def made_by(name, parameters, pictures=False, **options):
        pipeline = module(f"pipelines.{name}").create_pipeline()
        if not pictures:
            drawn = {n.name for n in pipeline.nodes if n.name.startswith("draw_")}
            pipeline -= pipeline.only_nodes(*drawn)
        try:
            session_in(trained_project, pipeline, runtime_params=parameters, **options)
        finally:
            made = recorded(trained_project)[-1]
        return made

    return made_by


@pytest.fixture
def score(run_pipeline, trained_project):
    """Return a function that scores a table with ``drift_options``."""

    def scored(table, runner=None, kind="csv", pictures=False, **options):
        file = trained_project / f"new.{kind}"
        getattr(table, {"csv": "to_csv", "parquet": "to_parquet"}[kind])(
            file, index=False
        )
        parameters = {"score_options": {"input": str(file)}, "drift_options": options}
        return run_pipeline("score", parameters, pictures, runner=runner)

    return scored


@pytest.fixture
def monitor(run_pipeline, trained_project):
    """Return a function that measures the champion on a table again."""

    def monitored(table, pictures=False, **options):
        file = trained_project / "labelled.csv"
        table.to_csv(file, index=False)
        parameters = {"monitor_options": {"input": str(file), **options}}
        return run_pipeline("monitor", parameters, pictures)

    return monitored


def moved(flowers):
    """Return flowers whose petals have become wider by a standard deviation."""
    return flowers.assign(petal_width=flowers["petal_width"] + 0.76)


def artifact(project, run, name):
    """Return a JSON artifact of a run."""
    uri = f"sqlite:///{project}/mlflow.db"
    path = MlflowClient(uri, uri).download_artifacts(run.id, f"monitoring/{name}")
    with open(path) as file:
        return json.load(file)


def champion(project):
    """Return the version that is champion, and its logged model."""
    uri = f"sqlite:///{project}/mlflow.db"
    client = MlflowClient(uri, uri)
    number = client.get_model_version_by_alias(PACKAGE, "champion").version
    version = client.get_model_version(PACKAGE, number)
    return version, client.get_logged_model(version.source.rpartition("/")[2])


def test_training_records_what_it_looked_like_and_the_model_keeps_it(
    tracking, trained_project
):
    (trained,) = recorded(trained_project)
    record = artifact(trained_project, trained, "training_record.json")
    assert [*record["features"]] == FEATURES
    assert {column["kind"] for column in record["features"].values()} == {"numbers"}
    assert record["target"]["species"]["counts"][0] == 120
    assert record["predictions"]["species"]["counts"][0] == 30
    assert 0.5 < record["mean_probability"] < 1
    assert record["metrics"]["accuracy"] == trained.metrics["accuracy"]
    _, watch = tracking.load_watched_model(CHAMPION)
    assert watch.record == record
    _, model = champion(trained_project)
    assert watch.model_id == model.model_id
    assert {metric.key for metric in model.metrics} == {*trained.metrics}


@pytest.mark.slow
def test_undrifted_flowers_have_no_drift(score, flowers, trained_project):
    plain = flowers.drop(columns="species")
    made = score(plain, on_drift="fail", pictures=True)
    assert made.status == "FINISHED"
    assert made.tags["drift.verdict"] == "none"
    assert made.metrics["rows"] == 300
    for name in FEATURES:
        assert made.metrics[f"drift.{name}.ks"] < 0.1
        assert made.metrics[f"drift.{name}.psi"] < 0.2
        assert made.metrics[f"missing.{name}"] == 0
        assert made.metrics[f"outside.{name}"] < 0.05
    shares = [made.metrics[f"share.{name}"] for name in flowers["species"].unique()]
    assert sum(shares) == pytest.approx(1)
    assert 0.5 < made.metrics["mean_probability"] < 1
    assert {"monitoring/drift.json", "monitoring/drift.png"} <= set(made.artifacts)
    drift = artifact(trained_project, made, "drift.json")
    assert drift["verdict"] == "none" and drift["rows"] == 300


def test_a_shifted_column_is_named_in_run_log_and_version(
    score, flowers, trained_project, messages
):
    made = score(moved(flowers).drop(columns="species"))
    verdict = made.tags["drift.verdict"]
    assert verdict.split(", ")[0] == "petal_width"
    version, model = champion(trained_project)
    assert version.tags["drift.verdict"] == verdict
    assert version.tags["drift.run_id"] == made.id
    on_model = {metric.key: metric.value for metric in model.metrics}
    for name, value in made.metrics.items():
        if name != "rows":
            assert on_model[name] == value
    line = f"Drift since the training of {CHAMPION}: {verdict}"
    assert messages.count(line) == 1
    drift = artifact(trained_project, made, "drift.json")
    assert [*drift["columns"]][0] == "petal_width"


@pytest.mark.slow
def test_metrics_gather_on_the_models_page_over_time(score, flowers, trained_project):
    plain = flowers.drop(columns="species")
    for table in (plain, moved(plain), plain):
        score(table)
    _, model = champion(trained_project)
    found = [m for m in model.metrics if m.key == "drift.petal_width.ks"]
    runs = [run for run in recorded(trained_project) if "model.uri" in run.tags]
    assert {m.run_id for m in found} == {run.id for run in runs} and len(runs) == 3


def test_few_rows_get_no_verdict(score, flowers):
    made = score(moved(flowers).drop(columns="species").head(6))
    assert made.tags["drift.verdict"] == "too few rows (6)"
    assert made.metrics["rows"] == 6


@pytest.mark.slow
def test_a_run_may_fail_on_drift_and_its_output_is_saved(
    score, flowers, trained_project
):
    with pytest.raises(Exception, match="Drift since the training: petal_width"):
        shifted = moved(flowers).drop(columns="species")
        score(shifted, on_drift="fail", pictures=True)
    made = recorded(trained_project)[-1]
    assert made.status == "FAILED"
    assert made.tags["drift.verdict"].startswith("petal_width")
    assert made.tags["failure.node"].startswith("refuse_drift")
    wanted = {"monitoring/drift.json", "monitoring/drift.png"}
    assert wanted | {"predictions/scored_flowers.csv"} <= set(made.artifacts)
    output = trained_project / "data/07_model_output/scored_flowers.csv"
    assert len(pd.read_csv(output)) == 300


@pytest.mark.slow
def test_other_runners_and_files_measure_the_same(score, flowers):
    table = moved(flowers).drop(columns="species")
    expected = score(table)
    for runner, kind in (
        (kedro.runner.ThreadRunner(), "csv"),
        (kedro.runner.SequentialRunner(is_async=True), "csv"),
        (None, "parquet"),
    ):
        made = score(table, runner=runner, kind=kind)
        assert made.metrics == expected.metrics, (runner, kind)
        assert made.tags["drift.verdict"] == expected.tags["drift.verdict"]


def log_champion(trained_project, metadata, columns=None):
    """Log and register a champion with other metadata, or for other columns."""
    model = mlflow.sklearn.load_model(CHAMPION)
    mlflow.set_experiment(PACKAGE)
    with mlflow.start_run():
        logged = mlflow.sklearn.log_model(
            model,
            name="model",
            metadata=metadata,
            serialization_format="cloudpickle",
            pip_requirements=[],
        )
    version = mlflow.register_model(logged.model_uri, PACKAGE)
    MlflowClient().set_registered_model_alias(PACKAGE, "champion", version.version)


def test_a_model_without_a_record_is_scored_all_the_same(
    score, monitor, flowers, trained_project, messages
):
    log_champion(trained_project, None)
    made = score(flowers.drop(columns="species"), on_drift="fail")
    assert made.status == "FINISHED" and [*made.metrics] == ["rows"]
    said = "not measured: the model has no training record"
    assert made.tags["drift.verdict"] == said
    assert len([line for line in messages if said in line]) == 1
    made = monitor(flowers, on_worse="fail")
    assert made.tags["monitor.verdict"].endswith("not known when it was trained")


def test_columns_that_were_renamed_are_named_and_nothing_fails(
    score, flowers, trained_project, tracking, messages
):
    _, watch = tracking.load_watched_model(CHAMPION)
    record = watch.record
    record["features"]["old_name"] = record["features"].pop("petal_width")
    log_champion(trained_project, {"training_record": json.dumps(record)})
    made = score(flowers.drop(columns="species"))
    assert made.tags["drift.verdict"] == "none"
    assert "drift.petal_width.ks" not in made.metrics
    assert "drift.sepal_width.ks" in made.metrics
    assert messages.count("Not compared, for they are not there any more: old_name.")


def test_counters_go_to_workers_and_back(tracking, trained_project, module, flowers):
    model, watch = tracking.load_watched_model(CHAMPION)
    nodes = module("pipelines.score.nodes")
    count = partial(tracking.Counters, watch.columns())
    count = pickle.loads(pickle.dumps(count))
    whole, parts = count(), [count(), count()]
    predict = partial(nodes.predict_species, model)
    predict(flowers[FEATURES], whole)
    predict(flowers[FEATURES][:100], parts[0])
    predict(flowers[FEATURES][100:], parts[1])
    parts[1].merge(pickle.loads(pickle.dumps(parts[0])))
    assert parts[1].answers == whole.answers
    assert parts[1].mean_probability() == whole.mean_probability()
    for name, counted in whole.counts.items():
        assert counted.tolist() == parts[1].counts[name].tolist()


def test_scoring_while_the_registry_refuses_tags_goes_on(
    score, flowers, trained_project, monkeypatch, messages
):
    """A colleague who may read a model may not be allowed to change its version."""
    _, model = champion(trained_project)
    shown = json.dumps([{"name": PACKAGE, "version": "99"}])  # which is not there
    uri = f"sqlite:///{trained_project}/mlflow.db"
    MlflowClient(uri, uri).set_logged_model_tags(
        model.model_id, {"mlflow.modelVersions": shown}
    )
    made = score(flowers.drop(columns="species"))
    assert made.status == "FINISHED" and made.tags["drift.verdict"] == "none"
    assert any("has no tag drift.verdict" in line for line in messages)


def test_labels_that_arrive_say_what_the_champion_is_worth(
    monitor, flowers, trained_project
):
    made = monitor(flowers, pictures=True)
    trained = recorded(trained_project)[0]
    verdict = made.tags["monitor.verdict"]
    assert verdict.startswith(f"accuracy {made.metrics['monitor.accuracy']:.4g}, ")
    then = f"{trained.metrics['accuracy']:.4g} when it was trained"
    assert verdict.endswith(f"{then}: not worse by more than 0.05")
    names = {f"monitor.{name}" for name in trained.metrics} | {"monitor.rows"}
    assert made.metrics.keys() == names
    assert made.metrics["monitor.rows"] == 300
    version, model = champion(trained_project)
    assert version.tags["monitor.verdict"] == verdict
    assert names <= {metric.key for metric in model.metrics}
    wanted = {"monitoring/quality_today.json", "monitoring/quality_today.png"}
    assert wanted <= set(made.artifacts)


def test_the_measures_are_those_of_training(monitor, flowers, module, trained_project):
    made = monitor(moved(flowers))
    model = mlflow.sklearn.load_model(CHAMPION)
    nodes = module("pipelines.data_science.nodes")
    rows = moved(flowers)
    expected = nodes.measure(rows, nodes.predict(model, rows))
    for name, value in expected.items():
        assert made.metrics[f"monitor.{name}"] == pytest.approx(value)


@pytest.mark.slow
def test_a_worse_champion_is_reported_and_may_fail_the_run(
    monitor, flowers, trained_project
):
    assert monitor(moved(flowers)).status == "FINISHED"
    with pytest.raises(Exception, match="worse by more than 0.05"):
        monitor(moved(flowers), on_worse="fail", pictures=True)
    made = recorded(trained_project)[-1]
    assert made.status == "FAILED"
    assert made.tags["monitor.verdict"].endswith("worse by more than 0.05")
    assert "monitoring/quality_today.png" in made.artifacts
    assert monitor(moved(flowers), on_worse="fail", margin=0.9).status == "FINISHED"


def test_a_metric_that_should_be_small_is_worse_when_it_grows(monitor, flowers):
    made = monitor(moved(flowers), metric="log_loss", better="less")
    assert made.tags["monitor.verdict"].endswith(": worse by more than 0.05")


def test_a_metric_that_is_no_number_is_not_compared(tracking, active_run):
    watch = tracking.Watch("models:/m/1", record={"metrics": {"a": 0.9}})
    options = tracking.QualityOptions("a")
    found = tracking.report_quality(watch, {"a": float("nan")}, 100, options)
    assert (found["verdict"], found["worse"]) == ("a was not measured", False)
    worse = tracking.report_quality(watch, {"a": 0.1}, 100, options)
    assert worse["worse"] and worse["trained"] == {"a": 0.9}


def test_few_labels_get_no_verdict(monitor, flowers):
    made = monitor(moved(flowers).head(6), on_worse="fail")
    assert made.status == "FINISHED"
    assert made.tags["monitor.verdict"].startswith("too few rows (6): accuracy ")


def test_rows_without_a_label_are_left_out(monitor, flowers):
    flowers.loc[:99, "species"] = ""
    assert monitor(flowers).metrics["monitor.rows"] == 200
    with pytest.raises(Exception, match="no row has a species"):
        monitor(flowers.head(100))


@pytest.mark.slow
def test_labels_are_joined_to_what_was_scored(
    score, monitor, flowers, module, monkeypatch
):
    score(flowers.drop(columns="species"))
    labels = flowers[["flower", "species"]].sample(200, random_state=1)
    unscored = labels.head(5).assign(flower=[f"unscored {n}" for n in range(5)])
    whole = monitor(flowers[flowers["flower"].isin(labels["flower"])])
    for chunk in (1_000, 1_000_000):  # bytes: several, and one
        monkeypatch.setattr(module("datasets"), "BLOCK", chunk)
        joined = monitor(pd.concat([labels, unscored]), id="flower")
        assert joined.metrics["monitor.rows"] == 200
        for name, value in whole.metrics.items():
            assert joined.metrics[name] == pytest.approx(value)


def test_an_id_that_is_not_there_is_named(score, monitor, flowers):
    score(flowers.drop(columns="species"))
    with pytest.raises(Exception, match="labelled.csv has no column number; found: fl"):
        monitor(flowers[["flower", "species"]], id="number")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"on_worse": "panic"}, "on_worse is warn or fail, not 'panic'"),
        ({"better": "bigger"}, "better is more or less, not 'bigger'"),
        ({"margin": "little"}, "margin is no number: 'little'"),
        ({"margin": float("nan")}, "margin is no number: nan"),
        ({"margin": -0.1}, "margin is at least 0, not -0.1"),
        ({"min_rows": None}, "min_rows is no number: None"),
        ({"min_rows": -5}, "min_rows is at least 0, not -5"),
    ],
)
def test_options_that_mean_nothing_are_refused(module, options, message):
    nodes = module("pipelines.monitor.nodes")
    given = nodes.MonitorOptions(model=CHAMPION, metric="accuracy", **options)
    with pytest.raises(ClickException, match=f"^monitor_options.{message}"):
        given.check()


@pytest.mark.parametrize(
    "name, options",
    [("score", {"drift_options": {"alpha": 7}})]
    + [("monitor", {"monitor_options": {"margin": "x"}})],
)
def test_options_are_refused_before_a_run(run_pipeline, trained_project, name, options):
    with pytest.raises(ClickException, match=f"^{[*options][0]}.(alpha|margin) is "):
        run_pipeline(name, options)
    assert len(recorded(trained_project)) == 1


def test_a_picture_of_every_kind_of_column_can_be_drawn(module, tracking, messages):
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "number": random.normal(size=100),
            "constant": 1.0,
            "date": pd.date_range("2026-01-01", periods=100),
            "text $a_b": random.choice(["a$", "b"], 100),
            "flag": random.random(100) < 0.5,
            "empty": np.full(100, np.nan),
        }
    )
    counters = tracking.Counters(tracking.describe(table))
    counters.update(table)
    found = module("tracking.drift").compare(counters, tracking.DriftOptions())
    figure = module("pipelines.score.figures").draw_drift(found)
    titles = {ax.get_title().partition(":")[0] for ax in figure.axes}
    assert titles == {*table.columns}, figure.texts


@pytest.mark.slow
def test_workers_without_the_project_can_count(
    module, tracking, trained_project, tmp_path, flowers
):
    """As the cluster sends it: the project's functions go with the work."""
    nodes = module("pipelines.score.nodes")
    model, watch = tracking.load_watched_model(CHAMPION)
    count = partial(tracking.Counters, watch.columns())
    work = (partial(nodes.predict_species, model), count, flowers[FEATURES])
    package = sys.modules[PACKAGE]
    cloudpickle.register_pickle_by_value(package)
    try:
        (tmp_path / "work.pickle").write_bytes(cloudpickle.dumps(work))
    finally:
        cloudpickle.unregister_pickle_by_value(package)
    script = (
        "import cloudpickle, pickle\n"
        "predict, count, flowers = pickle.load(open('work.pickle', 'rb'))\n"
        "counters = count()\n"
        "predict(flowers, counters)\n"
        "open('done.pickle', 'wb').write(cloudpickle.dumps(counters))\n"
    )
    run(sys.executable, "-c", script, cwd=tmp_path)
    there = pickle.loads((tmp_path / "done.pickle").read_bytes())
    here = count()
    nodes.predict_species(model, flowers[FEATURES], here)
    here.merge(there)
    assert here.counts["petal_width"][0] == 600
    assert here.answers == [600, 2 * there.answers[1]]
