"""A user's life with a generated project: real environments, commands and browser."""

import json
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pyarrow.parquet
import pytest
import yaml
from filelock import FileLock
from runs import (
    AUTHOR,
    METRICS,
    PACKAGE,
    REPO,
    ROOT,
    free_port,
    path_of,
    recorded,
    run,
    serving,
)

SECRET = "password: hidden\n"


def commit(project: Path) -> None:
    """Put a fresh project into git, as its README says."""
    run("git", "init", "--quiet", cwd=project)
    run("git", "add", "--all", cwd=project)
    run("git", *AUTHOR, "commit", "--quiet", "-m", "First commit", cwd=project)


def changed(project: Path, *options: str) -> list[str]:
    """Return what ``git status`` reports."""
    status = run("git", "status", "--porcelain", *options, cwd=project)
    return status.stdout.splitlines()


@pytest.fixture
def committed(project):
    """Return a project of the test's own, in git."""
    commit(project)
    return project


@pytest.fixture(scope="session")
def home(shared, generated, bin_) -> Path:
    """Return a project in git that has been run once; tests only look at it."""
    with FileLock(shared / "home.lock"):
        project = shared / "home" / REPO
        if not (project / "mlflow.db").exists():
            shutil.copytree(generated, project)
            commit(project)
            (project / "conf" / "local" / "credentials.yml").write_text(SECRET)
            (project / "conf" / "local" / "parameters.yml").write_text("{}\n")
            (project / "conf" / "base" / "credentials.yml").write_text(SECRET)
            run(bin_ / "kedro", "run", cwd=project, PATH=path_of(bin_))
    return project


def test_git_keeps_the_raw_data_and_leaves_out_runs_and_secrets(home):
    assert (home / "mlflow.db").exists() and (home / "mlruns").is_dir()
    kept = run("git", "ls-files", cwd=home).stdout.split()
    assert "data/01_raw/iris.csv" in kept
    assert not [name for name in kept if "mlflow.db" in name or "mlruns" in name]
    assert not [name for name in kept if "credentials" in name]
    assert changed(home) == []


def test_kedro_run_records_one_whole_run(home):
    (one,) = recorded(home)
    assert (one.status, one.experiment) == ("FINISHED", PACKAGE)
    assert set(one.metrics) == METRICS and one.metrics["accuracy"] >= 0.9
    options = yaml.safe_load((home / "conf/base/parameters.yml").read_text())
    for others in ("score_options", "tune_options", "parallel"):
        del options[others]  # no node of a training takes them
    assert one.params == {
        f"{group}.{name}": str(value)
        for group, values in options.items()
        for name, value in values.items()
    }
    assert {"data/iris.csv", "figures/confusion_matrix.png"} <= one.artifacts
    head = run("git", "rev-parse", "HEAD", cwd=home).stdout.strip()
    assert one.tags["mlflow.source.git.commit"] == head
    assert one.tags["git.dirty"] == "false"


def test_the_dataset_that_the_run_read_is_its_input(home):
    with closing(sqlite3.connect(home / "mlflow.db")) as db:
        (entry,) = db.execute("SELECT name, digest, dataset_source FROM datasets")
        (link,) = db.execute(
            "SELECT destination_id FROM inputs WHERE source_type = 'DATASET'"
        )
    md5sum = run("md5sum", "data/01_raw/iris.csv", cwd=home).stdout.split()[0]
    assert entry[:2] == ("iris", md5sum)
    assert (home / "data/01_raw/iris.csv").as_uri() in entry[2]
    assert link == (recorded(home)[0].id,)


def logged_model(project: Path) -> Path:
    """Return the MLmodel file of the model that the pipeline names as its output."""
    uri = json.loads((project / "data/06_models/model_uri.json").read_text())
    (file,) = project.glob(f"mlruns/**/{uri.removeprefix('models:/')}/**/MLmodel")
    return file


def test_the_logged_model_says_what_it_takes_gives_and_needs(home):
    file = logged_model(home)
    model = yaml.safe_load(file.read_text())
    names = [column["name"] for column in json.loads(model["signature"]["inputs"])]
    header = (home / "data/01_raw/iris.csv").read_text().splitlines()[0].split(",")
    assert [*names, "species"] == header
    (output,) = json.loads(model["signature"]["outputs"])
    assert (output["type"], output["name"]) == ("string", "species")
    assert model["flavors"]["sklearn"]["serialization_format"] == "skops"
    assert model["run_id"] == recorded(home)[0].id
    example = model["saved_input_example_info"]["artifact_path"]
    assert json.loads((file.parent / example).read_text())["columns"] == names
    pinned = (file.parent / "requirements.txt").read_text().splitlines()
    assert {"mlflow", "scikit-learn"} <= {line.partition("==")[0] for line in pinned}
    assert all("==" in line for line in pinned)


def test_the_logged_model_predicts_species_elsewhere(home, bin_, tmp_path):
    file = logged_model(home)
    code = (
        "import sys, json, mlflow, pandas\n"
        "model = mlflow.pyfunc.load_model(sys.argv[1])\n"
        "print(json.dumps(list(model.predict(pandas.read_csv(sys.argv[2])))))"
    )
    data = home / "data/01_raw/iris.csv"
    done = run(bin_ / "python", "-c", code, file.parent, data, cwd=tmp_path)
    predicted = json.loads(done.stdout.splitlines()[-1])
    truth = [line.split(",")[-1] for line in data.read_text().splitlines()[1:]]
    pairs = zip(predicted, truth, strict=True)
    assert sum(left == right for left, right in pairs) / len(truth) >= 0.9


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("registry list", ["__default__", "data_engineering", "data_science"]),
        ("registry describe data_science", ["train_model", "report_accuracy"]),
        ("catalog describe-datasets", ["iris", "confusion_matrix", "CSVDataset"]),
        ("catalog list-patterns", []),
        ("info", ["kedro_telemetry"]),
    ],
)
def test_kedros_own_commands_work(home, bin_, command, shown):
    done = run(bin_ / "kedro", *command.split(), cwd=home, PATH=path_of(bin_))
    for word in shown:
        assert word in done.stdout
    assert len(recorded(home)) == 1


def test_help_does_not_wait_for_the_libraries(home, bin_):
    ran = run(bin_ / "python", "-X", "importtime", "-m", "kedro", "--help", cwd=home)
    loaded = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
    assert "kedro.framework.cli" in loaded
    libraries = ("matplotlib", "mlflow", "numpy", "pandas", "sklearn", "skops")
    assert not [name for name in loaded if name.partition(".")[0] in libraries]


def test_pytest_touches_neither_the_project_nor_the_exported_store(committed, bin_):
    elsewhere = {
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
        "MLFLOW_EXPERIMENT_ID": "77",
        "MLFLOW_RUN_ID": "0" * 32,
        "KEDRO_ENV": "nowhere",
    }
    pytest_ = (bin_ / "python", "-m", "pytest", "-p", "no:cacheprovider")
    done = run(*pytest_, cwd=committed, PYTHONDONTWRITEBYTECODE="1", **elsewhere)
    assert "passed" in done.stdout and "warning" not in done.stdout
    assert changed(committed, "--ignored") == ["!! .telemetry"]


def test_a_day_of_work_leaves_git_clean(committed, bin_):
    path = path_of(bin_)
    run(bin_ / "kedro", "run", cwd=committed, PATH=path)
    local = ("--env-manager", "local", "-P", "max_iter=300")
    sourced = f"source config.sh && mlflow run . {' '.join(local)}"
    run("bash", "-c", sourced, cwd=committed, PATH=path)
    run(bin_ / "ruff", "check", cwd=committed)
    run(bin_ / "ruff", "format", "--check", cwd=committed)
    assert changed(committed) == []
    first, second = recorded(committed)
    assert (first.status, second.status) == ("FINISHED", "FINISHED")
    assert first.experiment == second.experiment == PACKAGE
    assert second.params["max_iter"] == second.params["model_options.max_iter"] == "300"
    assert first.metrics["accuracy"] == second.metrics["accuracy"]


def test_mlflow_run_builds_an_environment_of_its_own(committed, bin_, tmp_path):
    """Only conda.yaml is at hand: nothing of ours is on PATH but tools."""
    tools = tmp_path / "tools"
    tools.mkdir()
    version = "python{}.{}".format(*sys.version_info)
    for tool in ("bash", "git", "uv"):
        (tools / tool).symlink_to(shutil.which(tool))
    (tools / version).symlink_to(Path(sys.base_prefix) / "bin" / version)
    run(
        *(bin_ / "mlflow", "run", ".", "--env-manager", "uv"),
        *("-P", "C=0.5", "-P", "test_size=0.3"),
        cwd=committed,
        PATH=str(tools),
        MLFLOW_ENV_ROOT=str(tmp_path / "environments"),
        MLFLOW_TRACKING_URI=f"sqlite:///{committed / 'mlflow.db'}",
    )
    (one,) = recorded(committed)
    assert one.status == "FINISHED" and one.metrics["accuracy"] >= 0.9
    assert one.params["C"] == one.params["model_options.C"] == "0.5"
    assert one.params["test_size"] == one.params["split_options.test_size"] == "0.3"
    predictions = committed / "data/07_model_output/predictions.parquet"
    assert pyarrow.parquet.read_metadata(predictions).num_rows == 0.3 * 150
    python = one.tags["python.executable"]
    assert Path(python).is_relative_to(tmp_path / "environments")
    assert {"figures/confusion_matrix.png", "data/iris.csv"} <= one.artifacts
    assert changed(committed) == []


def test_kedro_in_ipython(home, bin_, tmp_path):
    script = tmp_path / "cells.ipy"
    script.write_text(
        f"%load_ext kedro.ipython\n%reload_kedro {home}\n"
        "print(sorted(pipelines), catalog.load('iris').shape, context.params)\n"
        "import mlflow\n"
        f"runs = mlflow.search_runs(experiment_names=['{PACKAGE}'])\n"
        "print('recorded:', list(runs['status']))\n"
    )
    done = run(bin_ / "ipython", script, cwd=home, COLUMNS="200")
    assert "'__default__', 'data_engineering', 'data_science'" in done.stdout
    assert "(150, 5)" in done.stdout and "'max_iter': 200" in done.stdout
    assert "recorded: ['FINISHED']" in done.stdout


@pytest.mark.parametrize(
    ("data", "parameters", "words"),
    [
        (lambda text: text.replace("petal_width", "width"), "", "petal_width"),
        (lambda text: text.replace("5.1,", "long,", 1), "", "sepal_length (1 rows)"),
        (lambda text: "", "", "iris.csv"),
        (None, "model_option.C=1", "model_option"),
        (None, "model_options.c=1", "LogisticRegression unexpected 'c'"),
        (None, "model_options.C=-1", "LogisticRegression 'C' range"),
    ],
    ids=["column", "type", "empty", "group", "parameter", "negative"],
)
def test_bad_input_is_refused_by_name_before_training(
    kedro, project, empty_store, data, parameters, words
):
    shutil.copy(empty_store, project / "mlflow.db")
    csv = project / "data/01_raw/iris.csv"
    if data:
        csv.write_text(data(csv.read_text()))
    options = ["--params", parameters] if parameters else []
    done = kedro("run", *options, ok=False, COLUMNS="300")
    assert done.returncode != 0
    message = done.stderr.rpartition("╯\n")[2]
    for word in words.split(" " if parameters else "\n"):
        assert word in message
    assert len(message.splitlines()) <= 6
    assert not (project / "data/06_models/model.pkl").exists()
    assert not {one.status for one in recorded(project)} - {"FAILED"}


def test_config_sh_leads_every_tool_to_the_projects_store(home, bin_, tmp_path):
    script = f"""
        source '{home}/config.sh'
        mlflow runs list --experiment-id 1
        kedro info >kedro.txt
        python -c 'import mlflow; print(mlflow.get_tracking_uri())'
    """
    done = run("bash", "-ec", script, cwd=tmp_path, PATH=path_of(bin_))
    (one,) = recorded(home)
    assert one.id in done.stdout
    assert done.stdout.splitlines()[-1] == f"sqlite:///{home / 'mlflow.db'}"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["kedro.txt"]


@pytest.fixture
def ui(home, bin_, tmp_path):
    """Return the address of `mlflow ui`, started elsewhere after config.sh."""
    port, log = free_port(), tmp_path / "ui.log"
    script = f"source '{home}/config.sh' && exec mlflow ui --port {port} --workers 1"
    words = ("bash", "-c", script)
    path = path_of(bin_)
    with serving(*words, port=port, log=log, cwd=tmp_path, PATH=path) as (url, _):
        yield url


def test_the_ui_shows_metric_parameter_and_confusion_matrix(home, ui, chromium):
    (one,) = recorded(home)
    browser = chromium.new_page(viewport={"width": 1900, "height": 1600})
    browser.set_default_timeout(60_000)
    artifacts = ROOT / "artifacts"
    artifacts.mkdir(exist_ok=True)
    browser.goto(f"{ui}/#/experiments/1/runs/{one.id}")
    for text in ("accuracy", str(one.metrics["accuracy"]), "model_options.C", "200"):
        browser.get_by_text(text, exact=True).first.wait_for()
    browser.screenshot(path=artifacts / "run.png")

    browser.goto(f"{ui}/#/experiments/1/runs/{one.id}/artifacts")
    browser.get_by_text("figures", exact=True).click()
    browser.get_by_text("confusion_matrix.png", exact=True).click()
    picture = browser.locator("img[alt='figures/confusion_matrix.png']")
    picture.wait_for()
    browser.wait_for_function(
        "element => element.complete", arg=picture.element_handle()
    )
    assert picture.evaluate("element => element.naturalWidth") >= 400
    browser.screenshot(path=artifacts / "confusion_matrix.png")
