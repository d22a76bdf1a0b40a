"""A user's day with a generated project: one pass by processes of its own.

The pass generates a project, installs its requirements into an empty environment, and
runs, serves, scores and tests it there. The tests read what it left behind.
"""

import json
import pickle
import shutil
import sqlite3
import sys
from contextlib import closing
from dataclasses import astuple, dataclass
from pathlib import Path

import pyarrow.parquet
import pytest
import yaml
from filelock import FileLock
from recipes import ask
from runs import (
    AUTHOR,
    METRICS,
    PACKAGE,
    build_environment,
    generate,
    groups,
    path_of,
    recorded,
    run,
)

SECRET = "password: hidden\n"
SETOSA = dict(sepal_length=5.1, sepal_width=3.5, petal_length=1.4, petal_width=0.2)


def commit(project: Path) -> None:
    """Put a fresh project into git, as its README says."""
    run("git", "init", "--quiet", cwd=project)
    run("git", "add", "--all", cwd=project)
    run("git", *AUTHOR, "commit", "--quiet", "-m", "First commit", cwd=project)


def changed(project: Path, *options: str) -> list[str]:
    """Return what ``git status`` reports."""
    status = run("git", "status", "--porcelain", *options, cwd=project)
    return status.stdout.splitlines()


def logged_model(project: Path) -> Path:
    """Return the MLmodel file of the model that the pipeline names as its output."""
    uri = json.loads((project / "data/06_models/model_uri.json").read_text())
    (file,) = project.glob(f"mlruns/**/{uri.removeprefix('models:/')}/**/MLmodel")
    return file


@dataclass
class Day:
    """What the pass left behind.

    Args:
        project: The project, in git.
        bin: The ``bin`` of its environment.
        tested: What the project's own tests printed.
        after_tests: What ``git status --ignored`` reported after them.
        first_store: A copy of the store as it was after the first ``kedro run``.
        first_model: The model that this run logged.
        environments: The folder in which ``mlflow run`` built an environment.
        trained_rows: The number of predictions of ``mlflow run``.
        answer: What the served champion answered.
    """

    project: Path
    bin: Path
    tested: str
    after_tests: list[str]
    first_store: Path
    first_model: Path
    environments: Path
    trained_rows: int
    answer: list[str]


def own_tests(project: Path, bin_: Path) -> str:
    """Run the project's own tests in a shell that points elsewhere."""
    elsewhere = {
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
        "MLFLOW_EXPERIMENT_ID": "77",
        "MLFLOW_RUN_ID": "0" * 32,
        "KEDRO_ENV": "nowhere",
        "PYTHONPYCACHEPREFIX": str(project.parent / "bytecode"),
    }
    words = (bin_ / "python", "-m", "pytest", "-p", "no:cacheprovider")
    return run(*words, cwd=project, **elsewhere).stdout


def mlflow_run_in_its_own_environment(project: Path, bin_: Path, folder: Path) -> None:
    """Only conda.yaml is at hand: nothing of ours is on PATH but tools."""
    tools = folder / "tools"
    tools.mkdir()
    version = "python{}.{}".format(*sys.version_info)
    for tool in ("bash", "git", "uv"):
        (tools / tool).symlink_to(shutil.which(tool))
    (tools / version).symlink_to(Path(sys.base_prefix) / "bin" / version)
    words = f"'{bin_ / 'mlflow'}' run . --env-manager uv"
    words += " -P C=0.5 -P test_size=0.3 -P max_iter=300"
    script = f"source config.sh && PATH='{tools}' && exec {words}"
    env = {"PATH": path_of(bin_), "MLFLOW_ENV_ROOT": str(folder / "environments")}
    run("bash", "-c", script, cwd=project, **env)


@pytest.fixture(scope="session")
def day(shared) -> Day:
    """Return what one pass left behind; tests only read it."""
    folder, told = shared / "day", shared / "day.pickle"
    with FileLock(shared / "day.lock"):
        if not told.exists():
            folder.mkdir()
            told.write_bytes(pickle.dumps(astuple(one_pass(folder))))
    return Day(*pickle.loads(told.read_bytes()))


def one_pass(folder: Path) -> Day:
    """Generate a project in a folder, and do all that its README shows."""
    project = generate(folder)
    commit(project)
    bin_ = build_environment(folder / "environment", *groups(project, "dev"))
    path = {"PATH": path_of(bin_)}
    tested = own_tests(project, bin_)
    after_tests = changed(project, "--ignored")

    (project / "conf" / "local" / "credentials.yml").write_text(SECRET)
    (project / "conf" / "local" / "parameters.yml").write_text("{}\n")
    (project / "conf" / "base" / "credentials.yml").write_text(SECRET)
    run(bin_ / "kedro", "run", cwd=project, **path)
    first_store = shutil.copy(project / "mlflow.db", folder / "first.db")
    first_model = logged_model(project)

    mlflow_run_in_its_own_environment(project, bin_, folder)
    predictions = project / "data/07_model_output/predictions.parquet"
    trained_rows = pyarrow.parquet.read_metadata(predictions).num_rows
    answer = ask(bin_, project, [SETOSA])
    (project / "serve.log").unlink()  # of the test, not of the project
    run(bin_ / "kedro", "run", "--pipelines=score", cwd=project, **path)
    run(bin_ / "ruff", "check", cwd=project)
    run(bin_ / "ruff", "format", "--check", cwd=project)
    return Day(
        project,
        bin_,
        tested,
        after_tests,
        first_store,
        first_model,
        folder / "environments",
        trained_rows,
        answer,
    )


@pytest.fixture
def home(day) -> Path:
    """Return the project of the pass."""
    return day.project


def test_git_keeps_the_raw_data_and_leaves_out_runs_and_secrets(home):
    assert (home / "mlflow.db").exists() and (home / "mlruns").is_dir()
    kept = run("git", "ls-files", cwd=home).stdout.split()
    assert "data/01_raw/iris.csv" in kept
    assert not [name for name in kept if "mlflow.db" in name or "mlruns" in name]
    assert not [name for name in kept if "credentials" in name]
    assert changed(home) == []


def test_kedro_run_records_one_whole_run(day, home):
    (one,) = recorded(home, day.first_store)
    assert (one.status, one.experiment) == ("FINISHED", PACKAGE)
    assert set(one.metrics) == METRICS and one.metrics["accuracy"] >= 0.9
    text = (home / "conf/base/parameters.yml").read_text()
    options = yaml.safe_load(text.replace("${globals:model_name}", PACKAGE))
    used = ("split_options", "model_options", "log_options", "promote_options")
    options = {group: options[group] for group in used}
    assert one.params == {
        f"{group}.{name}": str(value)
        for group, values in options.items()
        for name, value in values.items()
    }
    assert {"data/iris.csv", "figures/confusion_matrix.png"} <= one.artifacts
    head = run("git", "rev-parse", "HEAD", cwd=home).stdout.strip()
    assert one.tags["mlflow.source.git.commit"] == head
    assert one.tags["git.dirty"] == "false"


def test_the_dataset_that_the_run_read_is_its_input(day, home):
    with closing(sqlite3.connect(day.first_store)) as db:
        (entry,) = db.execute("SELECT name, digest, dataset_source FROM datasets")
        (link,) = db.execute(
            "SELECT destination_id FROM inputs WHERE source_type = 'DATASET'"
        )
    md5sum = run("md5sum", "data/01_raw/iris.csv", cwd=home).stdout.split()[0]
    assert entry[:2] == ("iris", md5sum)
    assert (home / "data/01_raw/iris.csv").as_uri() in entry[2]
    assert link == (recorded(home)[0].id,)


def test_the_logged_model_says_what_it_takes_gives_and_needs(day, home):
    file = day.first_model
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


def test_the_logged_model_predicts_species_elsewhere(day, home, bin_, fork, tmp_path):
    file = day.first_model
    code = (
        "import sys, json, mlflow, pandas\n"
        "model = mlflow.pyfunc.load_model(sys.argv[1])\n"
        "print(json.dumps(list(model.predict(pandas.read_csv(sys.argv[2])))))"
    )
    data = home / "data/01_raw/iris.csv"
    done = fork.run(bin_ / "python", "-c", code, file.parent, data, cwd=tmp_path)
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
def test_kedros_own_commands_work(home, kedro, command, shown):
    before = len(recorded(home))
    done = kedro(*command.split(), cwd=home)
    for word in shown:
        assert word in done.stdout
    assert len(recorded(home)) == before


def test_help_does_not_wait_for_the_libraries(home, bin_):
    ran = run(bin_ / "python", "-X", "importtime", "-m", "kedro", "--help", cwd=home)
    loaded = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
    assert "kedro.framework.cli" in loaded
    libraries = ("matplotlib", "mlflow", "numpy", "pandas", "sklearn", "skops")
    assert not [name for name in loaded if name.partition(".")[0] in libraries]


def test_pytest_touches_neither_the_project_nor_the_exported_store(day):
    assert "passed" in day.tested and "warning" not in day.tested
    assert day.after_tests == ["!! .telemetry"]


def test_mlflow_run_builds_an_environment_of_its_own(day, home, project, kedro):
    first, second, scoring = recorded(home)
    for one in (first, second, scoring):
        assert (one.status, one.experiment) == ("FINISHED", PACKAGE)
    assert second.metrics["accuracy"] >= 0.9
    passed = {
        "C": ("model_options.C", "0.5"),
        "max_iter": ("model_options.max_iter", "300"),
        "test_size": ("split_options.test_size", "0.3"),
    }
    for short, (name, value) in passed.items():
        assert second.params[short] == second.params[name] == value
    assert day.trained_rows == 0.3 * 150
    python = second.tags["python.executable"]
    assert Path(python).is_relative_to(day.environments)
    assert {"figures/confusion_matrix.png", "data/iris.csv"} <= second.artifacts
    # `kedro run` with these parameters, elsewhere, measures the same.
    kedro("run", "--params=" + ",".join("=".join(pair) for pair in passed.values()))
    (same,) = recorded(project)
    assert same.metrics["accuracy"] == second.metrics["accuracy"]


def test_the_champion_is_served_and_scores_a_file(day, home):
    assert day.answer == ["setosa"]
    assert recorded(home)[-1].metrics["rows"] > 0
    assert (home / "data/07_model_output/scored_flowers.csv").exists()


def test_kedro_in_ipython(home, bin_, fork, tmp_path):
    script = tmp_path / "cells.ipy"
    script.write_text(
        f"%load_ext kedro.ipython\n%reload_kedro {home}\n"
        "print(sorted(pipelines), catalog.load('iris').shape, context.params)\n"
        "import mlflow\n"
        f"runs = mlflow.search_runs(experiment_names=['{PACKAGE}'])\n"
        "print('recorded:', list(runs['status']))\n"
    )
    words = (bin_ / "python", "-m", "IPython", script)
    done = fork.run(*words, cwd=home, COLUMNS="200")
    assert "'__default__', 'data_engineering', 'data_science'" in done.stdout
    assert "(150, 5)" in done.stdout and "'max_iter': 200" in done.stdout
    statuses = [one.status for one in recorded(home)]
    assert set(statuses) == {"FINISHED"} and f"recorded: {statuses}" in done.stdout


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
    ids = [one.id for one in recorded(home)]
    assert ids and all(id_ in done.stdout for id_ in ids)
    assert done.stdout.splitlines()[-1] == f"sqlite:///{home / 'mlflow.db'}"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["kedro.txt"]
