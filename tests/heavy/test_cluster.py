"""Scoring a folder of files on a Dask cluster."""

import re
import shutil
import signal
import time

import pandas as pd
import pytest
from runs import (
    PACKAGE,
    REPO,
    free_port,
    path_of,
    point_at,
    recorded,
    run,
    start,
    wait_for,
)

FOLDER = "data/07_model_output/scored_flowers"
COLUMNS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]


@pytest.fixture(scope="module")
def trained(generated, workbench, tmp_path_factory):
    """Return a project with a champion, and its own answers for 1,500 flowers."""
    project = shutil.copytree(generated, tmp_path_factory.mktemp("trained") / REPO)
    flowers = pd.concat([pd.read_csv(project / "data/01_raw/iris.csv")] * 10)
    flowers = flowers[COLUMNS].reset_index(drop=True)
    flowers.insert(0, "id", [f"{number:05}" for number in range(len(flowers))])
    flowers["note"] = ["", "NA", "é"] * 500
    flowers.loc[::7, "note"] = 'a "good" one,\nsaid Ann'
    flowers.to_csv(project / "data/01_raw/new_flowers.csv", index=False)
    for words in [(), ("--pipelines=score",)]:
        run(workbench / "kedro", "run", *words, cwd=project, PATH=path_of(workbench))
    (project / "data/01_raw/new_flowers").mkdir()
    return project


@pytest.fixture
def project(trained, tmp_path):
    """Return a copy of it, of the test's own."""
    return shutil.copytree(trained, tmp_path / REPO)


@pytest.fixture
def score(project, workbench, tmp_path):
    """Return a function that starts a scoring on a cluster; it writes into ``log``."""

    def command(address: str, *words: str):
        point_at(address, project)
        command = (workbench / "kedro", "run", "--pipelines=score", "--env=cluster")
        env = {"PATH": path_of(workbench), "COLUMNS": "400"}
        output = (tmp_path / "log").open("w")
        return start(*command, *words, cwd=project, output=output, **env)

    return command


def split(project, kind: str, files: int = 3):
    """Write the flowers into files of a folder; return the folder."""
    flowers = pd.read_csv(
        project / "data/01_raw/new_flowers.csv", dtype=str, keep_default_na=False
    )
    folder, size = project / "data/01_raw/new_flowers", len(flowers) // files
    for number in range(files):
        part = flowers.iloc[number * size : (number + 1) * size]
        name = folder / f"{number:03}.{kind}"
        if kind == "csv":
            part.to_csv(name, index=False)
        else:
            part.astype(dict.fromkeys(COLUMNS, float)).to_parquet(name, index=False)
    return folder


def answers(project) -> pd.DataFrame:
    """Return what one process has answered."""
    return pd.read_csv(
        f"{project / FOLDER}.csv",
        dtype=dict.fromkeys(["id", "note", "species"], str),
        keep_default_na=False,
    )


def last_run(project):
    return [r for r in recorded(project) if r.tags["kedro.env"] == "cluster"][-1]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_cluster_answers_as_one_process_does(kind, cluster, project, score, log):
    folder = split(project, kind)
    given = ["--params", f"score_options.input={folder.as_uri()}"]
    assert score(cluster.address, *given).wait(120) == 0, log()
    table = pd.read_parquet(project / FOLDER)
    assert table["id"].is_monotonic_increasing and len(table) == 1500
    table = table.astype(dict.fromkeys(COLUMNS, float))
    pd.testing.assert_frame_equal(table, answers(project), check_dtype=False)
    assert last_run(project).metrics["rows"] == 1500
    # What the workers have counted is what one process has, to the last digit.
    (alone,) = [r for r in recorded(project) if r.tags["kedro.pipeline"] == "score"][:1]
    assert last_run(project).metrics == alone.metrics
    assert "drift.petal_width.ks" in alone.metrics
    assert last_run(project).tags["drift.verdict"] == alone.tags["drift.verdict"]


def test_a_bad_row_is_refused_with_its_file_and_the_old_output_stays(
    cluster, project, score, log
):
    folder = split(project, "csv")
    assert score(cluster.address).wait(120) == 0, log()
    before = {file.name: file.read_bytes() for file in (project / FOLDER).iterdir()}
    bad = folder / "001.csv"
    bad.write_text(re.sub(r"(\n\d{5},)", r"\1-", bad.read_text(), count=1))
    assert score(cluster.address).wait(120) == 1
    why = f"{bad}, rows 1 to 500: not a positive number: sepal_length (1 rows)"
    assert why in log()
    failed = last_run(project)
    assert failed.status == "FAILED" and why in failed.tags["failure.error"]
    after = {file.name: file.read_bytes() for file in (project / FOLDER).iterdir()}
    assert after == before and not list((project / FOLDER).parent.glob("*.part"))


def test_a_file_with_other_columns_is_named(cluster, project, score, log):
    folder = split(project, "csv")
    bad = folder / "002.csv"
    bad.write_text(bad.read_text().replace("note", "remark", 1))
    assert score(cluster.address).wait(120) == 1
    why = f"{bad} has other columns than {folder / '000.csv'}"
    assert why in last_run(project).tags["failure.error"]
    assert not (project / FOLDER).exists()


def test_an_edited_node_goes_to_workers_that_run_already(cluster, project, score, log):
    split(project, "csv")
    assert score(cluster.address).wait(120) == 0, log()
    nodes = project / f"src/{PACKAGE}/pipelines/data_science/nodes.py"
    code = nodes.read_text()
    edited = code.replace("({TARGET: labels}, ", '({TARGET: "rose"}, ')
    assert edited != code
    nodes.write_text(edited)
    assert score(cluster.address).wait(120) == 0, log()
    assert set(pd.read_parquet(project / FOLDER)["species"]) == {"rose"}


def test_a_worker_dies_and_all_rows_are_scored(cluster, project, score, log):
    split(project, "csv", files=500)
    scoring = score(cluster.address)
    wait_for("Saving data to scored_flowers", project.parent / "log", scoring)
    outputs = (project / FOLDER).parent
    while not any(outputs.glob("scored_flowers.*.part/*")):
        assert scoring.poll() is None, log()
        time.sleep(0.01)
    cluster.workers[0].send_signal(signal.SIGKILL)
    assert scoring.wait(120) == 0, log()
    assert len(list((project / FOLDER).iterdir())) == 500
    table = pd.read_parquet(project / FOLDER)
    assert table["id"].is_monotonic_increasing
    assert table["species"].equals(answers(project)["species"])


@pytest.mark.parametrize("when", ["at the start", "while it scores"])
def test_a_scheduler_is_gone(when, cluster, project, score, log):
    split(project, "csv", files=500)
    at_start = when == "at the start"
    address = f"tcp://127.0.0.1:{free_port()}" if at_start else cluster.address
    scoring = score(address)
    if not at_start:
        pattern = "Saving data to scored_flowers"
        wait_for(pattern, project.parent / "log", scoring)
        cluster.scheduler.send_signal(signal.SIGKILL)
    assert scoring.wait(90) == 1
    failed = last_run(project)
    assert failed.status == "FAILED" and address in failed.tags["failure.error"]
    assert not (project / FOLDER).exists()


def test_a_folder_without_files_is_named(cluster, project, score, log):
    assert score(cluster.address).wait(120) == 1
    assert "new_flowers is no folder of CSV or Parquet files" in log()


@pytest.fixture
def log(tmp_path):
    """Return a function that returns what the scoring has said."""
    return (tmp_path / "log").read_text
