"""``pipelines.score``: batches scored by a logged model, in process."""

import csv

import kedro.runner
import mlflow
import pandas as pd
import pyarrow as pa
import pytest
from click import ClickException
from mlflow import MlflowClient
from runs import PACKAGE, recorded

FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
GOOD = [5.1, 3.5, 1.4, 0.2]
CHAMPION = f"models:/{PACKAGE}@champion"
OUTPUT = "data/07_model_output/scored_flowers.csv"


@pytest.fixture
def in_chunks(module):
    """Return a function that makes a file of tables; ``read`` lists those read."""

    def make(*tables, read=None):
        def chunks():
            for number, part in enumerate(tables):
                if read is not None:
                    read.append(number)
                yield pa.Table.from_pandas(part, preserve_index=False)

        schema = pa.Schema.from_pandas(tables[0], preserve_index=False)
        return module("chunks").Chunks("new.csv", schema, chunks)

    return make


@pytest.fixture
def score(module, trained_project):
    """Return a function that scores chunks by the champion, in an active run.

    The answers are read as they are asked for, as tables of pandas.
    """
    nodes = module("pipelines.score.nodes")

    def scored(chunks, model=CHAMPION):
        answers, _ = nodes.score_flowers(chunks, nodes.ScoreOptions(model))
        return map(pa.Table.to_pandas, answers)

    mlflow.set_experiment(PACKAGE)
    with mlflow.start_run():
        yield scored


@pytest.fixture
def score_in_session(module, session_in, trained_project):
    """Return a function that runs the scoring pipeline and returns its MLflow run."""
    pipeline = module("pipelines.score").create_pipeline()

    def scored(**options):
        session_in(trained_project, pipeline, **options)
        return recorded(trained_project)[-1]

    return scored


def table(*rows, columns=FEATURES) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=columns)


def scored_rows(folder) -> list[dict[str, str]]:
    with (folder / OUTPUT).open(newline="") as file:
        return list(csv.DictReader(file))


def write(path, *rows, columns=FEATURES):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def test_chunks_are_scored_as_they_are_read_and_rows_are_counted(score, in_chunks):
    read = []
    part = table(GOOD, GOOD).assign(id=["007", "008"])
    answers = score(in_chunks(part, part, part, read=read))
    assert read == []
    first = next(answers)
    assert read == [0]
    assert list(first) == [*FEATURES, "id", "species", "probability"]
    assert first["id"].tolist() == ["007", "008"]
    assert first["species"].tolist() == ["setosa"] * 2
    assert first["probability"].between(0.9, 1).all()
    assert sum(map(len, answers)) == 4
    run = mlflow.get_run(mlflow.active_run().info.run_id)
    assert run.data.metrics == {"rows": 6}
    assert run.data.tags["model.uri"] == CHAMPION


def test_measures_that_are_text_come_out_as_they_went_in(score, in_chunks):
    (answers,) = score(in_chunks(table(["5.1", "3.5", "1e300", "2e2"])))
    assert answers["petal_length"].tolist() == ["1e300"]
    assert answers["species"].isin(["setosa", "versicolor", "virginica"]).all()


def test_each_species_has_its_own_probability(module):
    class Model:
        classes_ = ["a", "b"]

        def predict(self, flowers):
            return ["b", "unknown", "a", "b"]

        def predict_proba(self, flowers):
            return [[0.3, 0.7], [0, 0], [0.4, 0.6], [1, 0]]

    flowers = table(GOOD, GOOD, GOOD, GOOD)
    scored = module("pipelines.score.nodes").predict_species(Model(), flowers)
    assert list(scored["species"]) == ["b", "unknown", "a", "b"]
    assert list(scored["probability"].fillna(-1)) == [0.7, -1, 0.4, 0]


BAD = {
    "not a number": (
        table(GOOD, ["wide", 1, 1, 1]).astype(str),
        ", rows 3 to 4: not a positive number: sepal_length (1 rows)",
    ),
    "no column": (
        table(GOOD[:3], columns=FEATURES[:3]),
        ": missing column(s): petal_width; found: sepal_length, ",
    ),
    "scored already": (
        table(GOOD).assign(species="x"),
        ": has a column species already: rename it",
    ),
}


@pytest.mark.parametrize("bad, problem", BAD.values(), ids=BAD)
def test_a_refusal_names_the_input_the_rows_and_the_column(
    score, in_chunks, bad, problem
):
    answers = score(in_chunks(table(GOOD, GOOD), bad))
    next(answers)
    with pytest.raises(ValueError) as refused:
        next(answers)
    assert str(refused.value).startswith(f"new.csv{problem}")


def test_an_input_without_rows_is_refused(score, in_chunks):
    with pytest.raises(ValueError, match="^new.csv: the table has no rows$"):
        list(score(in_chunks(table())))


@pytest.mark.parametrize(
    "model", [f"models:/{PACKAGE}@best", f"models:/{PACKAGE}/99", "runs:/0a/model", "x"]
)
def test_a_model_that_does_not_exist_is_named_with_what_to_do(score, in_chunks, model):
    with pytest.raises(ClickException, match="train one with `kedro run`") as refused:
        score(in_chunks(table(GOOD)), model=model)
    assert refused.value.message.startswith(f"Cannot load the model {model}: ")
    assert len(refused.value.message.splitlines()) == 1


def test_a_notebook_gets_a_run(module, in_chunks, trained_project):
    mlflow.set_experiment(PACKAGE)
    nodes = module("pipelines.score.nodes")
    options = nodes.ScoreOptions(CHAMPION)
    answers, watch = nodes.score_flowers(in_chunks(table(GOOD)), options)
    assert watch.counters is None
    assert len(list(answers)) == 1
    assert recorded(trained_project)[-1].metrics == {"rows": 1}
    assert watch.counters.answers[0] == 1


def test_the_example_is_scored_and_the_run_names_model_and_data(
    score_in_session, trained_project
):
    made = score_in_session()
    with (trained_project / "data/01_raw/new_flowers.csv").open(newline="") as file:
        given = list(csv.DictReader(file))
    answers = scored_rows(trained_project)
    for row, answer in zip(given, answers, strict=True):
        assert answer["flower"] == row["flower"]
        assert 1 / 3 <= float(answer["probability"]) <= 1
    client = MlflowClient()
    champion = client.get_model_version_by_alias(PACKAGE, "champion")
    assert made.status == "FINISHED" and made.metrics["rows"] == len(given)
    assert made.tags["model.run_id"] == champion.run_id
    assert made.params["score_options.model"] == CHAMPION
    assert "predictions/scored_flowers.csv" in made.artifacts
    inputs = client.get_run(made.id).inputs
    (model,) = inputs.model_inputs
    assert champion.source == f"models:/{model.model_id}"
    assert made.tags["model.id"] == model.model_id
    assert [entry.dataset.name for entry in inputs.dataset_inputs] == ["new_flowers"]


@pytest.mark.slow
def test_parquet_comes_in_and_goes_out_by_its_name(score_in_session, trained_project):
    given = table(*[GOOD] * 100_000).assign(id=range(100_000))
    path = trained_project / "flowers.parquet"
    given.to_parquet(path)
    catalog = trained_project / "conf/base/catalog.yml"
    text = catalog.read_text()
    catalog.write_text(text.replace("scored_flowers.csv", "scored_flowers.parquet"))
    score_in_session(runtime_params={"score_options": {"input": str(path)}})
    answers = pd.read_parquet((trained_project / OUTPUT).with_suffix(".parquet"))
    assert answers[given.columns].equals(given)
    assert set(answers["species"]) == {"setosa"} and answers["probability"].min() > 0.9


@pytest.mark.slow
def test_order_and_other_columns_stay_across_chunks(score_in_session, trained_project):
    rows = [[f"00{i}", *GOOD, "" if i % 7 else "NA"] for i in range(60_000)]
    rows[45_000][-1] = 'said "two\nlines, and a comma"'
    columns = ["id", *FEATURES, "note"]
    path = write(trained_project / "long.csv", *rows, columns=columns)
    score_in_session(runtime_params={"score_options": {"input": str(path)}})
    answers = scored_rows(trained_project)
    assert [answer["id"] for answer in answers] == [row[0] for row in rows]
    assert [answer["note"] for answer in answers] == [row[-1] for row in rows]
    assert {answer["species"] for answer in answers} == {"setosa"}
    first, second = (trained_project / OUTPUT).read_text().splitlines()[:2]
    assert first == f"{','.join(columns)},species,probability"
    assert second.startswith("000,5.1,3.5,1.4,0.2,NA,setosa,0.9")


BAD_FILES = {
    "gap": ([["", *GOOD[1:]]], "sepal_length (1 rows)"),
    "a cell too many": ([GOOD, [*GOOD, 1]], "Expected 4 columns, got 5"),
    "no rows": ([], "the table has no rows"),
}


@pytest.mark.parametrize("rows, problem", BAD_FILES.values(), ids=BAD_FILES)
def test_bad_flowers_fail_the_run_and_the_last_output_stays(
    score_in_session, trained_project, rows, problem
):
    (trained_project / OUTPUT).write_text("as it was")
    path = write(trained_project / "bad.csv", *rows)
    with pytest.raises(Exception, match="bad.csv"):
        score_in_session(runtime_params={"score_options": {"input": str(path)}})
    made = recorded(trained_project)[-1]
    assert made.status == "FAILED"
    assert problem in made.tags["failure.error"]
    assert "bad.csv" in made.tags["failure.error"].partition(problem)[0]
    assert not list((trained_project / OUTPUT).parent.glob("*.part"))
    assert (trained_project / OUTPUT).read_text() == "as it was"


def test_an_option_that_does_not_exist_is_refused(score_in_session):
    with pytest.raises(Exception, match="score_options.*'inptu'"):
        score_in_session(runtime_params={"score_options": {"inptu": "bad.csv"}})


def test_an_input_that_does_not_exist_is_named(score_in_session, trained_project):
    path = trained_project / "nowhere.csv"
    with pytest.raises(Exception, match="nowhere.csv"):
        score_in_session(runtime_params={"score_options": {"input": str(path)}})


def test_threads_score_into_one_run(score_in_session, trained_project):
    made = score_in_session(runner=kedro.runner.ThreadRunner())
    assert len(recorded(trained_project)) == 2
    assert made.metrics["rows"] == len(scored_rows(trained_project))
