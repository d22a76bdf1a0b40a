"""Each edit that docs/make-it-yours.md shows, made in a fresh project."""

import csv
import shutil

import pytest
from mlflow import MlflowClient
from recipes import apply, ask, follow
from runs import PACKAGE, path_of, recorded, run

SRC = f"src/{PACKAGE}"
SCHEMA, SCIENCE = f"{SRC}/schema.py", f"{SRC}/pipelines/data_science"
NODES, PIPELINE = f"{SCIENCE}/nodes.py", f"{SCIENCE}/pipeline.py"
CATALOG, PARAMETERS = "conf/base/catalog.yml", "conf/base/parameters.yml"
SETOSA = dict(sepal_length=5.1, sepal_width=3.5, petal_length=1.4, petal_width=0.2)
FOREST = "A random forest"


@pytest.fixture
def project(project, empty_store):
    """Return a fresh project whose tracking database is made already."""
    shutil.copy(empty_store, project / "mlflow.db")
    return project


def scored(project) -> list[dict[str, str]]:
    with (project / "data/07_model_output/scored_flowers.csv").open() as file:
        return list(csv.DictReader(file))


def inputs(project, run_id: str) -> dict[str, str]:
    """Return the digests of a run's dataset inputs by name."""
    uri = f"sqlite:///{project}/mlflow.db"
    found = MlflowClient(uri, uri).get_run(run_id).inputs.dataset_inputs
    return {entry.dataset.name: entry.dataset.digest for entry in found}


def check_watched(project, kedro, labelled: str, target: str, *columns: str) -> None:
    """Score and monitor a table; check what is watched of these columns.

    Args:
        project: The project, which has trained.
        kedro: Runs a command.
        labelled: The file of features and labels. It is scored without its labels.
        target: The column of labels, whose predictions are watched, too.
        columns: Features, with the kind of their drift: ``NAME.ks`` or ``NAME.chi2``.
    """
    with (project / labelled).open(newline="") as file:
        rows = list(csv.DictReader(file))
    new = project / "data/01_raw/without_labels.csv"
    names = [name for name in rows[0] if name != target]
    with new.open("w", newline="") as file:
        table = csv.DictWriter(file, names, extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)
    kedro("run", "--pipelines=score", f"--params=score_options.input={new}")
    scoring = recorded(project)[-1]
    assert scoring.status == "FINISHED"
    assert scoring.metrics["rows"] == len(scored(project)) == len(rows)
    assert scoring.tags["drift.verdict"] == "none"  # of mostly the training's rows
    measured = {f"drift.{column}" for column in columns}
    for column in columns:
        measured.add(f"missing.{column.rpartition('.')[0]}")
    assert measured <= scoring.metrics.keys()
    assert {f"drift.{target}.psi", f"missing.{target}"} <= scoring.metrics.keys()
    assert {"monitoring/drift.json", "monitoring/drift.png"} <= scoring.artifacts

    given = f"--params=monitor_options.input={project / labelled}"
    kedro("run", "--pipelines=monitor", given)
    trained, monitored = recorded(project)[0], recorded(project)[-1]
    assert monitored.status == "FINISHED"
    assert "not worse by more than 0.05" in monitored.tags["monitor.verdict"]
    assert monitored.metrics["monitor.rows"] == len(rows)
    again = {key for key in monitored.metrics if key.startswith("monitor.")}
    assert {f"monitor.{name}" for name in trained.metrics} <= again
    assert "monitoring/quality_today.png" in monitored.artifacts


@pytest.mark.parametrize(
    "title",
    [
        FOREST,
        "Gradient boosting",
        "Nearest neighbours",
        "A support vector machine",
        "A grid search",
    ],
)
def test_another_estimator_is_trained_scored_and_served(project, bin_, fork, title):
    assert follow(project, bin_, title, fork) <= {NODES, PARAMETERS, "MLproject"}
    trained, scoring = recorded(project)
    assert trained.status == scoring.status == "FINISHED"
    assert trained.metrics["accuracy"] >= 0.9
    assert trained.tags["registry.decision"] == "champion"
    likely = title != "A support vector machine"
    assert ("log_loss" in trained.metrics) == likely
    rows = scored(project)
    assert len(rows) == scoring.metrics["rows"] > 0
    assert ("probability" in rows[0]) == likely
    # One of them is served as its owner serves it.
    served_by = None if title == FOREST else fork
    assert ask(bin_, project, [SETOSA], fork=served_by) == ["setosa"]
    if title == FOREST:
        fork.run(bin_ / "python", "-m", "pytest", cwd=project, PATH=path_of(bin_))


def test_a_newcomer_changes_the_estimator_and_its_options_and_runs(
    project, bin_, fork, kedro
):
    apply(project, FOREST, "--exclude=MLproject")
    kedro("run")
    (trained,) = recorded(project)
    assert trained.status == "FINISHED" and trained.metrics["accuracy"] >= 0.9
    path = {"PATH": path_of(bin_), "COLUMNS": "200"}
    words = (bin_ / "mlflow", "run", ".", "--env-manager=local")
    failed = fork.run(*words, cwd=project, ok=False, **path)
    assert failed.returncode
    said = [line for line in failed.stderr.splitlines() if "TypeError" in line]
    assert said and all("unexpected keyword argument 'C'" in line for line in said)
    test = fork.run(
        bin_ / "python", "-m", "pytest", "-k", "mlproject", cwd=project, ok=False
    )
    assert "MLproject passes model_options.C: take it out there" in test.stdout


def test_a_hyper_parameter_is_one_line(project, bin_, fork):
    assert follow(project, bin_, "One more hyper-parameter", fork) <= {PARAMETERS}
    trained, _ = recorded(project)
    assert trained.params["model_options.class_weight"] == "balanced"
    assert ask(bin_, project, [SETOSA], fork=fork) == ["setosa"]


def test_a_hyper_parameter_needs_no_edit(project, bin_, fork):
    assert follow(project, bin_, "Without an edit", fork) == set()
    both = recorded(project)
    assert [one.status for one in both] == ["FINISHED", "FINISHED"]
    for one in both:
        assert one.params["model_options.class_weight"] == "balanced"


def test_a_feature_of_the_project_goes_with_the_model(project, bin_, fork, kedro):
    kedro("run")
    assert follow(project, bin_, "A feature that the model computes", fork) <= {
        NODES,
        f"{SRC}/features.py",
    }
    _, trained, scoring = recorded(project)
    assert trained.status == scoring.status == "FINISHED"
    assert "of version 1" in trained.tags["registry.against"]
    old = f"models:/{PACKAGE}/1"
    kedro("run", "--pipelines=score", f"--params=score_options.model={old}")
    assert {row["species"] for row in scored(project)} > {"setosa"}
    new = f"models:/{PACKAGE}/2"
    assert ask(bin_, project, [SETOSA], uri=new, fork=fork) == ["setosa"]


def test_another_table_takes_the_champions_place_and_says_why(
    project, bin_, fork, kedro
):
    kedro("run")
    assert follow(project, bin_, "Another table", fork) <= {SCHEMA, CATALOG}
    iris, wine = recorded(project)
    assert wine.status == "FINISHED" and wine.metrics["accuracy"] >= 0.9
    assert wine.tags["registry.version"] == f"models:/{PACKAGE}/2"
    assert wine.tags["registry.decision"] == "champion"
    assert "version 1, not comparable: " in wine.tags["registry.against"]
    run("git", "init", "-q", cwd=project)
    ignored = run("git", "check-ignore", "data/01_raw/wine.csv", cwd=project, ok=False)
    assert ignored.stdout == ""
    with (project / "data/01_raw/wine.csv").open() as file:
        first = next(csv.DictReader(file))
    row = {name: float(value) for name, value in first.items() if name != "target"}
    assert ask(bin_, project, [row], fork=fork) == [int(first["target"])]
    columns = [f"{name}.ks" for name in row]
    check_watched(project, kedro, "data/01_raw/wine.csv", "target", *columns)
    fork.run(bin_ / "python", "-m", "pytest", cwd=project, PATH=path_of(bin_))


def test_a_missing_value_is_missing_in_scoring_too(project, bin_, fork, kedro):
    title = "Categories and missing values"
    assert follow(project, bin_, title, fork) <= {SCHEMA, NODES, CATALOG}
    trained, scoring = recorded(project)
    assert trained.status == scoring.status == "FINISHED"
    rows = scored(project)
    assert len(rows) == scoring.metrics["rows"] == 100
    gaps = [row for row in rows if not row["petal_width"] or not row["soil"]]
    assert len(gaps) > 30
    assert {row["species"] for row in gaps} == {"versicolor", "virginica"}
    row = {**SETOSA, "petal_length": 5.4, "petal_width": None, "soil": "clay"}
    assert ask(bin_, project, [row], fork=fork) == ["virginica"]
    assert scoring.metrics["missing.soil"] > 0
    columns = ("soil.chi2", "petal_width.ks", "sepal_length.ks")
    check_watched(project, kedro, "data/01_raw/meadow.csv", "species", *columns)


def test_a_column_of_text_is_trained_on_served_and_watched(project, bin_, fork, kedro):
    assert follow(project, bin_, "A column of text", fork) <= {SCHEMA, NODES, CATALOG}
    trained, scoring = recorded(project)
    assert trained.status == scoring.status == "FINISHED"
    assert trained.metrics["accuracy"] >= 0.9
    texts = [{"description": f"{size} petals"} for size in ("tiny", "huge")]
    assert ask(bin_, project, texts, fork=fork) == ["setosa", "virginica"]
    new = project / "empty.csv"
    new.write_text('description,place\nhuge petals,here\n" ",there\n')
    given = f"--params=score_options.input={new}"
    refused = kedro("run", "--pipelines=score", given, ok=False)
    assert "no text: description (1 rows)" in refused.stderr
    table = "data/01_raw/descriptions.csv"
    check_watched(project, kedro, table, "species", "description.chi2")


def test_a_regression_is_judged_by_an_error_of_which_less_is_better(
    project, bin_, fork, kedro
):
    assert follow(project, bin_, "A regression", fork) <= {
        SCHEMA,
        f"{SRC}/pipelines/data_engineering/nodes.py",
        NODES,
        PIPELINE,
        PARAMETERS,
        CATALOG,
    }
    kedro("run", "--params=model_options.alpha=1e6")
    good, bad = recorded(project)
    assert good.metrics["rmse"] < bad.metrics["rmse"] < 100
    assert good.tags["registry.decision"] == "champion"
    assert bad.tags["registry.decision"] == "challenger"
    assert "figures/quality.png" in good.artifacts
    diabetes = "data/01_raw/diabetes.csv"
    columns = ("bmi.ks", "target.ks")
    check_watched(project, kedro, diabetes, "target", *columns)
    assert recorded(project)[-1].tags["monitor.verdict"].startswith("rmse ")
    with (project / diabetes).open() as file:
        rows = list(csv.DictReader(file))
    true = [float(row.pop("target")) for row in rows]
    errors = [
        abs(float(row["target"]) - value)
        for row, value in zip(scored(project), true, strict=True)
    ]
    assert sum(errors) / len(errors) < 60
    first = {name: float(value) for name, value in rows[0].items()}
    (answer,) = ask(bin_, project, [first], fork=fork)
    assert answer == pytest.approx(float(scored(project)[0]["target"]))


def test_data_come_from_elsewhere_and_are_an_input_with_a_digest(project, bin_, fork):
    catalog = (project / CATALOG).read_text()
    digests = []
    for title in (
        "A table of a database",
        "A query",
        "Parquet",
        "A file outside of the project",
        "Versions of a file",
        "Memory",
    ):
        (project / CATALOG).write_text(catalog)
        assert follow(project, bin_, title, fork) == {CATALOG}
        last = recorded(project)[-1]
        assert last.status == "FINISHED" and last.metrics["accuracy"] >= 0.9, title
        digests.append(inputs(project, last.id)["iris"])
    table, query, parquet, file, version, memory = digests
    assert len({table, query, parquet, file}) == 4
    assert (version, memory) == (file, table)  # the same bytes, the same rows
    assert ask(bin_, project, [SETOSA], fork=fork) == ["setosa"]


def test_a_second_training_has_metrics_and_a_champion_of_its_own(project, bin_, fork):
    folder = f"{SRC}/pipelines/forest"
    allowed = {f"{folder}/__init__.py", f"{folder}/pipeline.py", CATALOG, PARAMETERS}
    assert follow(project, bin_, "A second training", fork) <= allowed
    (both,) = recorded(project)
    assert both.status == "FINISHED"
    assert both.tags["kedro.namespaces"] == "forest"
    assert {"accuracy", "forest.accuracy"} <= set(both.metrics)
    assert both.tags["registry.version"] == f"models:/{PACKAGE}/1"
    assert both.tags["forest.registry.version"] == "models:/iris_forest/1"
    assert "figures/forest_quality.png" in both.artifacts
    forest = "models:/iris_forest@champion"
    assert ask(bin_, project, [SETOSA], uri=forest, fork=fork) == ["setosa"]
    uri = f"sqlite:///{project}/mlflow.db"
    registry = MlflowClient(uri, uri)
    sources = {
        registry.get_model_version(name, "1").source
        for name in (PACKAGE, "iris_forest")
    }
    assert len(sources) == 2


def test_the_same_training_twice_keeps_both_apart(project, bin_, fork):
    folder = f"{SRC}/pipelines/compare"
    allowed = {f"{folder}/__init__.py", f"{folder}/pipeline.py", CATALOG, PARAMETERS}
    assert follow(project, bin_, "The same training twice", fork) <= allowed
    (one,) = recorded(project)
    assert one.tags["kedro.namespaces"] == "strong,weak"
    strong, weak = one.metrics["strong.accuracy"], one.metrics["weak.accuracy"]
    assert strong < one.metrics["accuracy"] <= weak
    for name in ("strong", "weak"):
        assert one.tags[f"{name}.registry.version"] == f"models:/iris_{name}/1"
        assert (
            float(one.tags[f"{name}.registry.score"]) == one.metrics[f"{name}.accuracy"]
        )
    champion = "models:/iris_weak@champion"
    assert ask(bin_, project, [SETOSA], uri=champion, fork=fork) == ["setosa"]


def test_a_node_logs_what_it_likes(project, bin_, fork):
    assert follow(project, bin_, "Logging of your own", fork) <= {NODES}
    runs = recorded(project)
    (main,) = [one for one in runs if "kedro.run_id" in one.tags]
    nested = [one for one in runs if "mlflow.parentRunId" in one.tags]
    assert [one.name for one in nested] == ["C=0.01", "C=0.1", "C=1.0"]
    assert {one.status for one in runs} == {"FINISHED"}
    assert {one.tags["mlflow.parentRunId"] for one in nested} == {main.id}
    assert main.tags["author"] == "me"
    assert "figures/measures.png" in main.artifacts
    uri = f"sqlite:///{project}/mlflow.db"
    history = MlflowClient(uri, uri).get_metric_history(main.id, "trial_accuracy")
    assert [point.step for point in history] == [0, 1, 2]
    assert "training_accuracy_score" in main.metrics  # of autolog
    assert main.tags["registry.decision"] == "champion"
    assert ask(bin_, project, [SETOSA], fork=fork) == ["setosa"]


@pytest.mark.parametrize("part", ["the registry", "pictures", "scoring"])
def test_parts_can_go_and_the_remaining_tests_pass(project, bin_, fork, part):
    assert follow(project, bin_, f"Without {part}", fork) <= {PIPELINE}
    (one,) = recorded(project)
    assert one.status == "FINISHED" and one.metrics["accuracy"] >= 0.9
    assert ("registry.version" in one.tags) == (part != "the registry")
