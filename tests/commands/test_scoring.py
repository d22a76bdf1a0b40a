"""New flowers, scored in a batch by a registered model."""

import csv
import json
import random
import shutil

import pytest
from mlflow import MlflowClient
from runs import PACKAGE, REPO, path_of, run

COLUMNS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
SPECIES = {"setosa", "versicolor", "virginica"}
OUTPUT = "data/07_model_output/scored_flowers.csv"
GOOD = [5.1, 3.5, 1.4, 0.2]


@pytest.fixture(scope="module")
def trained_twice(trained, bin_, fork, tmp_path_factory):
    """Return a project with a champion (version 1) and a challenger (version 2)."""
    project = shutil.copytree(trained, tmp_path_factory.mktemp("trained") / REPO)
    words = (bin_ / "kedro", "run", "--params=model_options.C=0.0001")
    fork.run(*words, cwd=project, PATH=path_of(bin_))
    return project


@pytest.fixture
def project(trained_twice, tmp_path):
    """Return a copy of it, of the test's own."""
    return shutil.copytree(trained_twice, tmp_path / REPO)


@pytest.fixture
def score(kedro, project):
    """Return a function that scores with the given options of ``score_options``."""

    def command(*options: str, ok: bool = True, **params):
        given = ",".join(
            f"score_options.{key}={value}" for key, value in params.items()
        )
        words = [*options, *([f"--params={given}"] if given else [])]
        return kedro("run", "--pipelines=score", *words, cwd=project, ok=ok)

    return command


def table(path, *rows, columns=(*COLUMNS,)):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def scored(project) -> list[dict[str, str]]:
    with (project / OUTPUT).open(newline="") as file:
        return list(csv.DictReader(file))


def client(project) -> MlflowClient:
    uri = f"sqlite:///{project}/mlflow.db"
    return MlflowClient(uri, uri)


def last_run(project):
    store = client(project)
    (experiment,) = store.search_experiments(filter_string=f"name = '{PACKAGE}'")
    (found,) = store.search_runs([experiment.experiment_id], max_results=1)
    return store.get_run(found.info.run_id)  # with the models that were its input


def test_the_example_is_scored_by_the_champion_and_the_run_names_it(project, score):
    score()
    with (project / "data/01_raw/new_flowers.csv").open(newline="") as file:
        given = list(csv.DictReader(file))
    answers = scored(project)
    for row, answer in zip(given, answers, strict=True):
        assert answer["flower"] == row["flower"]
        assert answer["species"] in SPECIES
        assert 1 / 3 <= float(answer["probability"]) <= 1
    made = last_run(project)
    champion = client(project).get_model_version_by_alias(PACKAGE, "champion")
    assert made.info.status == "FINISHED"
    assert made.data.tags["model.uri"] == f"models:/{PACKAGE}@champion"
    assert made.data.tags["model.run_id"] == champion.run_id
    (model,) = made.inputs.model_inputs
    assert champion.source == f"models:/{model.model_id}"
    assert made.data.tags["model.id"] == model.model_id
    assert [d.dataset.name for d in made.inputs.dataset_inputs] == ["new_flowers"]
    assert made.data.metrics["rows"] == len(given)
    assert made.data.tags["drift.verdict"] == f"too few rows ({len(given)})"
    assert made.data.params["score_options.model"] == f"models:/{PACKAGE}@champion"


def test_a_model_is_chosen_by_alias_version_or_run(project, score):
    challenger = client(project).get_model_version_by_alias(PACKAGE, "challenger")
    named = (f"models:/{PACKAGE}@challenger", f"models:/{PACKAGE}/2")
    for uri in (*named, f"runs:/{challenger.run_id}/model"):
        score(model=uri)
        assert last_run(project).data.tags["model.run_id"] == challenger.run_id


def test_without_a_champion_it_says_how_to_get_one(generated, kedro, tmp_path):
    project = shutil.copytree(generated, tmp_path / "untrained")
    failed = kedro("run", "--pipelines=score", cwd=project, ok=False)
    assert failed.returncode
    last = failed.stderr.splitlines()[-1]
    assert last.startswith(f"Error: Cannot load the model models:/{PACKAGE}@champion")
    assert "train one with `kedro run`" in last
    assert "Traceback" not in failed.stdout + failed.stderr
    assert last_run(project).info.status == "FAILED"


def test_a_second_run_replaces_the_first_ones_output(project, score, tmp_path):
    score()
    score(input=table(tmp_path / "one flower.csv", GOOD))
    assert len(scored(project)) == 1


def test_bad_flowers_end_the_command_and_the_last_output_stays(
    project, score, tmp_path
):
    (project / OUTPUT).write_text("as it was")
    failed = score(ok=False, input=table(tmp_path / "bad.csv", [-5, *GOOD[1:]]))
    assert failed.returncode
    made = last_run(project)
    assert made.info.status == "FAILED"
    assert "bad.csv" in made.data.tags["failure.error"]
    assert (project / OUTPUT).read_text() == "as it was"


def test_the_parallel_runner_scores_into_one_run(project, score):
    before = last_run(project)
    score("--runner=ParallelRunner")
    made = last_run(project)
    runs = client(project).search_runs([made.info.experiment_id])
    assert [r.info.run_id for r in runs[:2]] == [made.info.run_id, before.info.run_id]
    assert made.data.metrics["rows"] == len(scored(project))
    assert "drift.petal_width.ks" in made.data.metrics


def moved_iris(project, folder, *, labelled: bool = False):
    """Write flowers with wider petals than those of the training."""
    with (project / "data/01_raw/iris.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [*COLUMNS, "species"] if labelled else COLUMNS
    for row in rows:
        row["petal_width"] = str(float(row["petal_width"]) + 0.8)
    return table(
        folder / "moved.csv",
        *([row[name] for name in names] for row in rows),
        columns=names,
    )


def test_drift_is_said_and_may_fail_the_command(project, kedro, score, tmp_path):
    flowers = moved_iris(project, tmp_path)
    done = score(input=flowers)
    verdict = last_run(project).data.tags["drift.verdict"]
    assert verdict.startswith("petal_width")
    words = " ".join((done.stdout + done.stderr).split())
    assert f"models:/{PACKAGE}@champion: {verdict}" in words
    given = f"score_options.input={flowers},drift_options.on_drift=fail"
    words = ("run", "--pipelines=score", f"--params={given}")
    failed = kedro(*words, cwd=project, ok=False)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith(
        f"Error: Drift since the training: {verdict} -- the flowers are scored"
    )
    assert last_run(project).info.status == "FAILED"
    assert len(scored(project)) == 150


def test_the_measures_of_the_last_scorings_are_a_command_away(
    project, kedro, score, tmp_path
):
    measured = []
    for given in ({}, {"input": moved_iris(project, tmp_path)}):
        score(**given)
        measured.append(last_run(project).data.metrics["drift.petal_width.ks"])
    words = ("--pipeline=score", "--metric=drift.petal_width.ks")
    heading, *rows = kedro("runs", *words, cwd=project).stdout.splitlines()
    place = heading.split().index("drift.petal_width.ks") + 1  # a date and a time
    shown = [float(row.split()[place]) for row in rows]
    assert shown == pytest.approx(measured[::-1], rel=0.001)


def test_the_champion_is_measured_again_and_may_fail_the_command(
    project, kedro, tmp_path
):
    flowers = moved_iris(project, tmp_path, labelled=True)
    given = f"monitor_options.input={flowers},monitor_options.on_worse=fail"
    words = ("run", "--pipelines=monitor", f"--params={given}")
    failed = kedro(*words, cwd=project, ok=False)
    assert failed.returncode == 1
    verdict = last_run(project).data.tags["monitor.verdict"]
    said = f"Error: models:/{PACKAGE}@champion: {verdict}"
    assert failed.stderr.splitlines()[-1] == said
    assert verdict.endswith("when it was trained: worse by more than 0.05")
    champion = client(project).get_model_version_by_alias(PACKAGE, "champion")
    tags = client(project).get_model_version(PACKAGE, champion.version).tags
    assert tags["monitor.verdict"] == verdict
    assert tags["monitor.run_id"] == last_run(project).info.run_id


def test_mlflow_run_monitors(project, bin_, fork, tmp_path):
    path = {"PATH": path_of(bin_)}
    uri = {"MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db"}
    flowers = moved_iris(project, tmp_path, labelled=True)
    words = ("run", ".", "-e", "monitor", "--env-manager=local")
    given = ("-P", f"input={flowers}", "-P", "params=monitor_options.margin=0.9")
    named = (f"--experiment-name={PACKAGE}", "-P", f"model=models:/{PACKAGE}/2")
    fork.run(bin_ / "mlflow", *words, *given, *named, cwd=project, **path, **uri)
    made = last_run(project).data
    assert made.tags["model.uri"] == f"models:/{PACKAGE}/2"
    assert "not worse by more than 0.9" in made.tags["monitor.verdict"]
    assert made.metrics["monitor.rows"] == 150


def test_mlflow_run_scores(project, bin_, fork, tmp_path):
    path = {"PATH": path_of(bin_)}
    uri = {"MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db"}
    flowers = table(tmp_path / "two flowers.csv", GOOD, GOOD)
    words = ("run", ".", "-e", "score", "--env-manager=local", "-P", f"input={flowers}")
    named = (f"--experiment-name={PACKAGE}", "-P", f"model=models:/{PACKAGE}/2")
    fork.run(bin_ / "mlflow", *words, *named, cwd=project, **path, **uri)
    assert len(scored(project)) == 2
    assert last_run(project).data.tags["model.uri"] == f"models:/{PACKAGE}/2"


def test_the_default_input_is_named_in_the_catalog_alone(project, score):
    catalog = project / "conf/base/catalog.yml"
    name = "data/01_raw/new_flowers.csv"
    files = [path for path in project.rglob("*.yml") if name in path.read_text()]
    assert [*files] == [catalog] and name not in (project / "MLproject").read_text()
    table(project / "one flower.csv", GOOD)
    catalog.write_text(catalog.read_text().replace(name, "one flower.csv"))
    score()
    assert len(scored(project)) == 1


def test_the_models_name_is_declared_once(project, kedro, score):
    file = project / "conf/base/globals.yml"
    file.write_text("model_name: another_name\n")
    refused = score(ok=False)
    assert "Cannot load the model models:/another_name@champion" in refused.stderr
    kedro("run", cwd=project)
    score()
    assert last_run(project).data.tags["model.uri"] == "models:/another_name@champion"


def test_memory_does_not_grow_with_the_input(project, bin_, tmp_path):
    lots, count = random.Random(0), 100_000
    rows = [[round(lots.uniform(0.1, 8), 1) for _ in COLUMNS] for _ in range(count)]
    head, _, lines = table(tmp_path / "one.csv", *rows).read_text().partition("\n")
    script = tmp_path / "peak.py"
    script.write_text(
        "import json, resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, capture_output=True)\n"
        "usage = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(json.dumps(usage.ru_maxrss))\n"
    )
    path = {"PATH": path_of(bin_)}

    def peak(chunks: int) -> float:
        """Return the peak memory of scoring so many chunks, in MB."""
        big = tmp_path / "big.csv"
        big.write_text(f"{head}\n{lines * chunks}")
        words = (bin_ / "kedro", "run", "--pipelines=score")
        given = f"--params=score_options.input={big}"
        done = run(bin_ / "python", script, *words, given, cwd=project, **path)
        assert len((project / OUTPUT).read_bytes().splitlines()) == 1 + chunks * count
        return json.loads(done.stdout) / 1024

    assert peak(8) < peak(1) + 60
