"""Each edit that docs/make-it-yours.md shows, made in a fresh project."""

import csv
import shutil

import pytest
from recipes import ask, follow
from runs import PACKAGE, recorded, run

pytestmark = pytest.mark.slow

SCHEMA = f"src/{PACKAGE}/schema.py"
SCIENCE = f"src/{PACKAGE}/pipelines/data_science"
CATALOG, PARAMETERS = "conf/base/catalog.yml", "conf/base/parameters.yml"
ESTIMATOR = {f"{SCIENCE}/nodes.py", PARAMETERS, "MLproject"}
SETOSA = dict(sepal_length=5.1, sepal_width=3.5, petal_length=1.4, petal_width=0.2)
ESTIMATORS = {
    "A random forest": ESTIMATOR,
    "Gradient boosting": ESTIMATOR,
    "Nearest neighbours": ESTIMATOR,
    "A support vector machine": ESTIMATOR,
    "One more hyper-parameter": {PARAMETERS},
}


@pytest.fixture
def project(project, empty_store):
    """Return a fresh project whose tracking database is made already."""
    shutil.copy(empty_store, project / "mlflow.db")
    return project


@pytest.mark.parametrize("title, allowed", ESTIMATORS.items(), ids=ESTIMATORS)
def test_another_estimator_is_trained_scored_and_served(project, bin_, title, allowed):
    assert follow(project, bin_, title) <= allowed
    trained, scored = recorded(project)
    assert trained.status == scored.status == "FINISHED"
    assert trained.metrics["accuracy"] >= 0.9
    assert trained.tags["registry.decision"] == "champion"
    likely = title != "A support vector machine"
    assert ("log_loss" in trained.metrics) == likely
    with (project / "data/07_model_output/scored_flowers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == scored.metrics["rows"] > 0
    assert ("probability" in rows[0]) == likely
    assert ask(bin_, project, [SETOSA]) == ["setosa"]
    if title == "One more hyper-parameter":
        assert trained.params["model_options.class_weight"] == "balanced"


def test_another_table_takes_the_champions_place_and_says_why(project, bin_, kedro):
    kedro("run")
    assert follow(project, bin_, "Another table") <= {SCHEMA, CATALOG}
    iris, wine = recorded(project)
    assert wine.status == "FINISHED" and wine.metrics["accuracy"] >= 0.9
    assert wine.tags["registry.version"] == f"models:/{PACKAGE}/2"
    assert wine.tags["registry.decision"] == "champion"
    assert "version 1, not comparable: " in wine.tags["registry.against"]
    run("git", "init", "-q", cwd=project)
    ignored = run("git", "check-ignore", "data/01_raw/wine.csv", cwd=project, ok=False)
    assert ignored.stdout == ""


@pytest.mark.parametrize("part", ["the registry", "pictures", "scoring"])
def test_parts_can_go_and_the_remaining_tests_pass(project, bin_, part):
    assert follow(project, bin_, f"Without {part}") <= {f"{SCIENCE}/pipeline.py"}
    (one,) = recorded(project)
    assert one.status == "FINISHED" and one.metrics["accuracy"] >= 0.9
    assert ("registry.version" in one.tags) == (part != "the registry")
