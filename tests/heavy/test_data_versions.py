"""Both ways to version data of docs/data-versions.md, followed in a fresh project."""

import json
import sqlite3

import pytest
import recipes
import yaml
from recipes import follow
from runs import ROOT, build_environment, path_of, recorded, run

SHOWN = "2026-11-24T22.46.51.738Z"
GIT = {
    f"GIT_{who}_{what}": text
    for who in ("AUTHOR", "COMMITTER")
    for what, text in (("NAME", "Iris"), ("EMAIL", "iris@example.org"))
}


@pytest.fixture(autouse=True)
def page(monkeypatch):
    monkeypatch.setattr(recipes, "PAGE", ROOT / "docs" / "data-versions.md")


@pytest.fixture
def mine(project, empty_store):
    """Return a project in git, with a store."""
    (project / "mlflow.db").write_bytes(empty_store.read_bytes())
    run("git", "init", "--quiet", cwd=project)
    run("git", "add", "--all", cwd=project)
    run("git", "commit", "--quiet", "--message=first", cwd=project, **GIT)
    return project


def test_a_version_and_its_run_point_at_each_other(mine, kedro, bin_, monkeypatch):
    again = "--from-nodes=train_model"
    *steps, shown = recipes.steps("Kedro's versions")
    versions = "--load-versions=train:$V,test:$V"
    assert shown == f"$ V={SHOWN}\n$ kedro run {again} {versions}\n"
    monkeypatch.setattr(recipes, "steps", lambda title: steps)
    follow(mine, bin_, "Kedro's versions")
    folder = mine / "data" / "02_intermediate" / "train.parquet"
    (version,) = [path.name for path in folder.iterdir()]
    (saved,) = recorded(mine)
    assert saved.tags["kedro.run_id"] == version
    kedro("run", "--params=split_options.test_size=0.5")
    kedro("run", again, versions.replace("$V", version))
    loaded = recorded(mine)[2]
    with sqlite3.connect(mine / "mlflow.db") as db:
        query = "SELECT dataset_source FROM datasets WHERE name = 'train'"
        (source,) = db.execute(query).fetchone()
    assert json.loads(source)["uri"].endswith(f"train.parquet/{version}/train.parquet")
    assert loaded.metrics == saved.metrics
    kedro("run", again)  # the newest
    newest = recorded(mine)[3]
    kedro("run", "--params=split_options.test_size=0.4")  # a newer one
    done = kedro("replay", newest.id)
    assert done.stdout.splitlines()[-1] == "equal"


def test_dvc_and_the_run_have_the_same_digest(mine, bin_, tmp_path):
    dvc = build_environment(tmp_path / "dvc", "dvc")
    path = f"{path_of(bin_)}:{dvc}"
    env = {"PATH": path, "DVC_NO_ANALYTICS": "1", **GIT}
    follow(mine, bin_, "DVC", **env)
    data = yaml.safe_load((mine / "data" / "01_raw" / "iris.csv.dvc").read_text())
    with sqlite3.connect(mine / "mlflow.db") as db:
        query = "SELECT digest FROM datasets WHERE name = 'iris'"
        assert db.execute(query).fetchone() == (data["outs"][0]["md5"],)
    (one,) = recorded(mine)
    assert one.tags["git.dirty"] == "false"
    done = run(bin_ / "kedro", "replay", one.id, cwd=mine, **env)
    assert done.stdout.splitlines()[-1] == "equal"
    text = (ROOT / "docs" / "data-versions.md").read_text()
    stages = text.rpartition("```yaml\n")[2].partition("```")[0]
    (mine / "dvc.yaml").write_text(stages.replace("kedro run", "echo trained"))
    run(dvc / "dvc", "repro", cwd=mine, **env)
    lock = yaml.safe_load((mine / "dvc.lock").read_text())
    digests = {d["path"]: d["md5"] for d in lock["stages"]["train"]["deps"]}
    assert digests["data/01_raw/iris.csv"] == data["outs"][0]["md5"]
