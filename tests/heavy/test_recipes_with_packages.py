"""The recipes of the pages that need packages of their own."""

import csv
import re
import shutil

from recipes import ask, follow
from runs import PACKAGE, REPO, build_environment, git, path_of, recorded, run

NODES = f"src/{PACKAGE}/pipelines/data_science/nodes.py"
ALLOWED = {NODES, "conf/base/parameters.yml", "MLproject"}
ALLOWED |= {"pyproject.toml", "requirements.txt", "conda.yaml"}
SETOSA = dict(sepal_length=5.1, sepal_width=3.5, petal_length=1.4, petal_width=0.2)


def scored(project) -> list[dict[str, str]]:
    with (project / "data/07_model_output/scored_flowers.csv").open() as file:
        return list(csv.DictReader(file))


def test_boosters_are_scored_and_served_in_a_clean_environment(
    generated, empty_store, tmp_path
):
    requirements = ("-r", generated / "requirements.txt")
    bin_ = build_environment(tmp_path / "environment", *requirements)
    for title in ("LightGBM", "XGBoost"):
        project = shutil.copytree(generated, tmp_path / title / REPO)
        shutil.copy(empty_store, project / "mlflow.db")
        assert follow(project, bin_, title) <= ALLOWED
        trained, _ = recorded(project)
        assert trained.status == "FINISHED" and trained.metrics["accuracy"] >= 0.9
        assert {row["species"] for row in scored(project)} > {"setosa"}
        assert float(scored(project)[0]["probability"]) > 0.5
        assert ask(bin_, project, [SETOSA], manager="uv") == ["setosa"]


def test_a_feature_of_the_project_is_served_in_an_environment_of_its_own(
    project, bin_, fork
):
    follow(project, bin_, "A feature that the model computes", fork)
    assert ask(bin_, project, [SETOSA], manager="uv") == ["setosa"]


def test_evidently_compares_what_was_scored_with_the_training(scored_project, bin_):
    git(scored_project, "init", "--quiet")
    git(scored_project, "add", "--all")
    page = (scored_project / "docs/monitoring.md").read_text("utf-8")
    (typed,) = re.findall(
        r"^```console\n(\$ uv venv evidently.*?)^```$", page, re.M | re.S
    )
    script = re.sub(r"^\$ ", "", typed, flags=re.M)
    before = git(scored_project, "status", "--porcelain")
    run("bash", "-ec", script, cwd=scored_project, PATH=path_of(bin_))
    report = scored_project / "data/08_reporting/evidently.html"
    assert "petal_width" in report.read_text("utf-8")
    assert git(scored_project, "status", "--porcelain") == before
