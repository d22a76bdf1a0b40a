"""``tracking.provenance``: a run's parameters, inputs, code, packages and files."""

import os
import subprocess
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from click import ClickException
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from runs import AUTHOR, recorded
from runs import run as run_command
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

RUN_PARAMS = {
    "run_id": "2026-01-01T00.00.00.000Z",
    "kedro_version": "1.7.0",
    "pipeline_names": None,
    "runner": "<kedro.runner.thread_runner.ThreadRunner object at 0x7f>",
    "tags": ("one", "two"),
    "node_names": (),
    "from_nodes": [],
    "to_nodes": ["end"],
    "from_inputs": [],
    "to_outputs": None,
}


@pytest.fixture
def active_run(project):
    """Return an MLflow run of the project's store, which is active."""
    mlflow.set_tracking_uri(f"sqlite:///{project}/mlflow.db")
    with mlflow.start_run() as run:
        yield run


@pytest.fixture
def repository(tmp_path) -> Path:
    """Return a folder in git with one commit."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "file").write_text("one")
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=first")
    return folder


def git(folder: Path, *words: str) -> str:
    return run_command("git", *AUTHOR, *words, cwd=folder).stdout.strip()


def catalog_of(**entries) -> DataCatalog:
    return DataCatalog.from_config(entries)


def copy(value):
    return value


# Parameters


class Options:
    """Stands for a model of Pydantic's: it has ``model_dump``."""

    def model_dump(self):
        return {"depth": 3}


FLAT = {
    "nested": ({"a": {"b": {"c": 1}}}, {"a.b.c": "1"}),
    "list": ({"a": [1, {"b": 2}]}, {"a": "[1, {'b': 2}]"}),
    "empty": ({"a": {}, "b": None, "c": ""}, {"a": "{}", "b": "None", "c": ""}),
    "typed": ({"a": Options()}, {"a.depth": "3"}),
    "characters": ({"a:b": 1, "é-ü": 2}, {"a_b": "1", "é-ü": "2"}),
    "same names": ({"a:b": 1, "a/b": 2, "a?b": 3}, {"a_b": 1, "a_b_": 2, "a_b__": 3}),
    "no name": ({"": 1, ".": 2}, {"_": 1, "__": 2}),
    "number as name": ({1: {2: 3}}, {"1.2": "3"}),
    "order": ({"b": 1, "a": {"z": 2, "y": 3}}, {"b": 1, "a.z": 2, "a.y": 3}),
}


@pytest.mark.parametrize("given, flat", FLAT.values(), ids=FLAT)
def test_nested_parameters_get_dotted_names(tracking, given, flat):
    found = tracking.parameters.flatten(given)
    assert found == {name: str(value) for name, value in flat.items()}
    assert list(found) == list(flat)


def test_long_names_and_values_are_cut(tracking):
    found = tracking.parameters.flatten({"n" * 300: 1, "n" * 299: 2, "v": "x" * 9000})
    assert [len(name) for name in found] == [250, 250, 1]
    assert len(found["v"]) == 6000


@pytest.mark.parametrize("levels", [10_000])
def test_deep_parameters_do_not_exhaust_the_stack(tracking, levels):
    deep: dict = {"end": 1}
    for _ in range(levels):
        deep = {"d": deep}
    assert list(tracking.parameters.flatten(deep).values()) == ["1"]


@pytest.mark.parametrize(
    "name",
    ["password", "db_password", "API_KEY", "apikey", "my-token", "client.secret"]
    + ["passwd", "credentials", "credential"],
)
def test_values_of_secret_names_are_hidden(tracking, name):
    assert list(tracking.parameters.flatten({"db": {name: "hidden"}}).values()) == [
        "***"
    ]


@pytest.mark.parametrize("name", ["tokens", "max_token_count", "secretary", "keys"])
def test_values_of_other_names_are_shown(tracking, name):
    assert list(tracking.parameters.flatten({name: "shown"}).values()) == ["shown"]


@pytest.mark.parametrize(
    "text, value",
    [
        ("1e-2", 0.01),
        ("true", True),
        ("null", None),
        ("[1, 2]", [1, 2]),
        ("text", "text"),
        ("${a", "${a"),
        ("{a: [", "{a: ["),
    ],
)
def test_a_parameter_is_parsed_as_on_the_command_line(tracking, text, value):
    assert tracking.parameters.parse_value(text) == value


def test_parameters_of_the_nodes_and_of_the_command_line_are_taken(tracking):
    pipeline = Pipeline(
        [
            Node(lambda a, b: 1, ["params:a", "data"], "one"),
            Node(copy, "params:b.c", "two"),
        ]
    )
    catalog = DataCatalog(
        {
            "params:a": MemoryDataset({"x": 1}),
            "params:b.c": MemoryDataset(2),
            "params:unused": MemoryDataset(3),
        }
    )
    taken = tracking.parameters.used_parameters(
        pipeline, catalog, {"given": 4, "a": {"x": 0}}
    )
    assert taken == {"given": "4", "a.x": "1", "b.c": "2"}


def test_a_node_that_takes_all_parameters_has_all_recorded(tracking):
    catalog = DataCatalog({"parameters": MemoryDataset({"a": {"b": 1}, "c": 2})})
    pipeline = Pipeline([Node(copy, "parameters", "out")])
    assert tracking.parameters.used_parameters(pipeline, catalog, {}) == {
        "a.b": "1",
        "c": "2",
    }


def record_origin(tracking, run, parameters):
    tags = {"kedro.run_id": "now", "kedro.env": "local"}
    run = mlflow.get_run(run.info.run_id)
    tracking.provenance.log_all(run, tags, parameters, {"file.txt": b"text"})
    return mlflow.get_run(run.info.run_id)


def test_parameters_tags_and_files_are_recorded(tracking, active_run, project):
    made = record_origin(tracking, active_run, {"a": "1"})
    assert made.data.params == {"a": "1"}
    assert made.data.tags["kedro.env"] == "local"
    (run,) = recorded(project)
    assert run.artifacts == {"environment/file.txt"}


def test_a_callers_parameter_of_the_same_value_stays(tracking, active_run, messages):
    mlflow.log_params({"a": "0.010", "b": "x"})
    made = record_origin(tracking, active_run, {"a": "1e-2", "b": "x", "c": "2"})
    assert made.data.params == {"a": "0.010", "b": "x", "c": "2"}
    assert messages == []


def test_a_callers_parameter_of_another_value_is_kept(tracking, active_run, messages):
    mlflow.log_param("a", "1")
    made = record_origin(tracking, active_run, {"a": "2"})
    assert made.data.params == {"a": "1", "a.now": "2"}
    (message,) = messages
    assert "a is on the MLflow run as 1" in message and "logged as a.now" in message


# Names and namespaces


def test_metrics_are_logged_under_the_namespace_of_the_node(tracking, active_run):
    tracking.parameters.log_metrics({"accuracy": 0.5})
    token = tracking.names.node_namespace.set("forest")
    try:
        tracking.parameters.log_metrics({"accuracy": 0.75})
        assert tracking.names.with_namespace("x") == "forest.x"
    finally:
        tracking.names.node_namespace.reset(token)
    metrics = mlflow.get_run(active_run.info.run_id).data.metrics
    assert metrics == {"accuracy": 0.5, "forest.accuracy": 0.75}


def test_tags_say_what_made_a_run(tracking, tmp_path):
    pipeline = Pipeline([Node(copy, "a", "b", namespace="deep.one", name="n")])
    tags = tracking.provenance.run_tags(RUN_PARAMS, pipeline, tmp_path, "local")
    assert tags["kedro.pipeline"] == "__default__"
    assert tags["kedro.runner"] == "ThreadRunner"
    assert tags["kedro.session_id"] == tags["kedro.run_id"] == RUN_PARAMS["run_id"]
    assert tags["kedro.namespaces"] == "deep.one"
    assert (tags["kedro.tags"], tags["kedro.to_nodes"]) == ("one,two", "end")
    assert not {"kedro.node_names", "kedro.from_inputs", "kedro.to_outputs"} & {*tags}
    assert not [name for name in tags if "git" in name]


def test_tags_have_defaults(tracking, tmp_path):
    given = RUN_PARAMS | {"runner": None, "pipeline_names": ["a", "b"], "tags": ()}
    pipeline = Pipeline([Node(copy, "a", "b")])
    tags = tracking.provenance.run_tags(
        given | {"session_id": "s"}, pipeline, tmp_path, "base"
    )
    assert tags["kedro.runner"] == "SequentialRunner"
    assert (tags["kedro.pipeline"], tags["kedro.session_id"]) == ("a,b", "s")
    assert not {"kedro.tags", "kedro.namespaces"} & {*tags}


# Git


def test_git_state_of_a_clean_and_of_a_changed_folder(tracking, repository):
    head = git(repository, "rev-parse", "HEAD")
    clean = {"mlflow.source.git.commit": head, "mlflow.source.git.branch": "main"}
    assert tracking.code.git_state(repository) == clean | {"git.dirty": "false"}
    (repository / "new").touch()
    assert tracking.code.git_state(repository) == clean | {"git.dirty": "true"}


def test_git_state_names_the_remote_without_its_password(tracking, repository):
    git(repository, "remote", "add", "origin", "https://me:hidden@example.com/a.git")
    url = tracking.code.git_state(repository)["mlflow.source.git.repoURL"]
    assert "example.com/a.git" in url and "hidden" not in url


def test_a_detached_commit_has_no_branch(tracking, repository):
    git(repository, "checkout", "--quiet", "--detach")
    state = tracking.code.git_state(repository)
    assert "mlflow.source.git.branch" not in state and state["git.dirty"] == "false"


def test_a_repository_without_a_commit_has_no_state(tracking, tmp_path):
    git(tmp_path, "init", "--quiet")
    assert tracking.code.git_state(tmp_path) == {}


def test_no_git_no_state(tracking, repository, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert tracking.code.git_state(repository) == {
        "git.unavailable": "git is not installed"
    }


# Packages and models


def test_requirements_are_pinned_without_kedros(tracking, generated):
    pinned = tracking.models.pinned_requirements()
    names = {line.partition("==")[0] for line in pinned}
    assert {"mlflow", "scikit-learn", "skops"} <= names
    assert all("==" in line for line in pinned)
    assert not [name for name in names if name.startswith("kedro")]


def test_what_is_no_installed_requirement_is_left_out(tracking, tmp_path, monkeypatch):
    package = tmp_path / "src" / "iris_flowers"
    package.mkdir(parents=True)
    (tmp_path / "requirements.txt").write_text(
        "# comment\n--index-url x\nnot-installed-anywhere\n"
        "kedro-datasets[pandas]\nmlflow[auth,extra]>1 # why\n"
    )
    monkeypatch.setattr(tracking.models, "PACKAGE", package)
    (line,) = tracking.models.pinned_requirements()
    assert line == f"mlflow[auth,extra]=={mlflow.__version__}"


def test_a_wheels_requirements_are_those_of_its_metadata(
    tracking, tmp_path, monkeypatch
):
    info = tmp_path / "site" / "flowers-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: flowers\nVersion: 1\n"
        "Requires-Dist: mlflow>1\nRequires-Dist: pytest; extra == 'dev'\n"
    )
    (info / "RECORD").write_text("installed_flowers/__init__.py,,\n")
    (info.parent / "installed_flowers").mkdir()
    (info.parent / "installed_flowers" / "__init__.py").touch()
    monkeypatch.syspath_prepend(info.parent)
    monkeypatch.setattr(tracking.models, "PACKAGE", tmp_path / "site/installed_flowers")
    assert tracking.models.pinned_requirements() == [f"mlflow=={mlflow.__version__}"]


def test_a_model_of_scikit_learn_needs_no_code(tracking):
    portable = tracking.models.sklearn_log_kwargs(make_pipeline(LogisticRegression()))
    assert portable.pop("pip_requirements") == tracking.models.pinned_requirements()
    assert portable == {
        "serialization_format": "skops",
        "skops_trusted_types": None,
        "code_paths": None,
        "metadata": None,
    }


def test_types_of_a_model_are_trusted_by_name(tracking):
    model = make_pipeline(FunctionTransformer(np.log1p), LogisticRegression())
    assert tracking.models.sklearn_log_kwargs(model)["code_paths"] is None


def test_a_model_with_the_projects_functions_takes_its_code(tracking, module):
    model = FunctionTransformer(module("schema").validate_features)
    portable = tracking.models.sklearn_log_kwargs(model)
    assert portable["code_paths"] == [str(tracking.models.PACKAGE)]
    assert portable["skops_trusted_types"] == ["iris_flowers.schema.validate_features"]


def test_a_model_that_needs_kedro_is_refused(tracking, module):
    model = FunctionTransformer(module("datasets").read_file)
    with pytest.raises(ClickException, match="features.py, without Kedro"):
        tracking.models.sklearn_log_kwargs(model)


def test_a_model_that_skops_cannot_save_is_refused(tracking):
    with pytest.raises(ClickException, match="skops cannot save this .*flavour"):
        tracking.models.sklearn_log_kwargs(FunctionTransformer(i for i in [1]))


def test_a_worker_resumes_the_run_that_its_variable_names(tracking, active_run):
    mlflow.end_run()
    os.environ["MLFLOW_RUN_ID"] = active_run.info.run_id
    tracking.models.sklearn_log_kwargs(LogisticRegression())
    assert mlflow.active_run().info.run_id == active_run.info.run_id


# Inputs


def test_digests_are_those_of_md5sum_and_sha256sum(tracking, tmp_path):
    file = tmp_path / "large"
    file.write_bytes(os.urandom(3 << 20))
    for algorithm in ("md5", "sha256"):
        said = subprocess.run([f"{algorithm}sum", file], capture_output=True, text=True)
        assert tracking.datasets.file_digest(file, algorithm) == said.stdout.split()[0]
    assert tracking.datasets.md5(file.read_bytes()) == tracking.datasets.file_digest(
        file
    )


def test_input_files_are_digested_and_others_are_none(tracking, tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("a\n1\n")
    asked = {"mlflow": {"artifact_path": "data"}}
    text = {"type": "text.TextDataset"}
    catalog = catalog_of(
        local=text | {"filepath": str(file), "metadata": asked},
        uri=text | {"filepath": file.as_uri()},
        missing=text | {"filepath": str(tmp_path / "none")},
        memory={"type": "MemoryDataset"},
    )
    names = ["local", "uri", "missing", "memory", "params:x"]
    pipeline = Pipeline([Node(lambda *given: 1, names, "out")])
    found = tracking.datasets.input_files(pipeline, catalog)
    digest = tracking.datasets.file_digest(file)
    for name in ("local", "uri"):
        assert (found[name].path, found[name].digest) == (file, digest)
        assert not found[name].versioned
    assert found["missing"] is found["memory"] is None
    assert "params:x" not in found


def test_the_version_that_is_loaded_is_the_input(tracking, tmp_path):
    entry = {
        "type": "text.TextDataset",
        "filepath": str(tmp_path / "a.txt"),
        "versioned": True,
    }
    catalog = catalog_of(a=entry)
    assert (
        tracking.catalog_files.dataset_file("a", catalog) is None
    )  # the node will say so
    for version in ("2026-01-01T00.00.00.000Z", "2026-01-02T00.00.00.000Z"):
        (tmp_path / "a.txt" / version).mkdir(parents=True)
        (tmp_path / "a.txt" / version / "a.txt").write_text(version)
    catalog = catalog_of(a=entry)
    assert tracking.catalog_files.dataset_file("a", catalog).path.read_text() == version
    older = tracking.catalog_files.dataset_file(
        "a", catalog, "2026-01-01T00.00.00.000Z"
    )
    assert older.path.read_text() == "2026-01-01T00.00.00.000Z"


def only_input(run):
    (entry,) = mlflow.get_run(run.info.run_id).inputs.dataset_inputs
    return entry.dataset


def test_a_tables_file_is_logged_with_digest_and_schema(tracking, active_run, tmp_path):
    path = tmp_path / "iris.csv"
    file = tracking.catalog_files.DataFile(path, {}, "abc")
    tracking.datasets.log_input_or_warn(
        active_run.info.run_id, "iris", file, pd.DataFrame({"a": [1]})
    )
    dataset = only_input(active_run)
    assert (dataset.name, dataset.digest) == ("iris", "abc")
    assert path.as_uri() in dataset.source and '"a"' in dataset.schema


def test_a_table_without_a_file_has_a_digest_of_its_rows(tracking, active_run):
    for number in (1, 1, 2):
        table = pd.DataFrame({"a": [number], "b": ["text"]})
        tracking.datasets.log_input_or_warn(active_run.info.run_id, "t", None, table)
    run = mlflow.get_run(active_run.info.run_id)
    assert len({d.dataset.digest for d in run.inputs.dataset_inputs}) == 2


def test_a_file_that_is_no_table_is_logged_by_its_digest(
    tracking, active_run, tmp_path
):
    file = tracking.catalog_files.DataFile(tmp_path / "a.txt", {}, "abc")
    tracking.datasets.log_input_or_warn(active_run.info.run_id, "text", file, "text")
    dataset = only_input(active_run)
    assert (dataset.digest, dataset.source_type) == ("abc", "local")
    assert file.path.as_uri() in dataset.source


def test_what_has_no_digest_is_named_in_a_tag(tracking, active_run):
    tracking.datasets.log_input_or_warn(active_run.info.run_id, "numbers", None, [1, 2])
    run = mlflow.get_run(active_run.info.run_id)
    assert run.data.tags["data.numbers.digest"].startswith("none: list is neither")
    assert not run.inputs.dataset_inputs


# Files that a run saves


def saving(tmp_path, **settings):
    """Return a pipeline that saves a file, and the catalog entry of that file."""
    entry = {
        "type": "text.TextDataset",
        "filepath": str(tmp_path / "out.txt"),
        "metadata": {"mlflow": settings},
    }
    return Pipeline([Node(copy, "text", "out")]), catalog_of(out=entry)


@pytest.mark.parametrize(
    "settings, artifacts",
    [
        ({"artifact_path": "texts"}, {"texts/out.txt"}),
        ({"artifact_path": ""}, {"out.txt"}),
        ({"artifact_path": "texts", "max_mb": 1}, {"texts/out.txt"}),
        ({"artifact_path": "texts", "max_mb": 0.000001}, set()),
        ({}, set()),
    ],
)
def test_a_file_is_an_artifact_if_its_entry_asks_and_it_is_small(
    tracking, active_run, project, tmp_path, messages, settings, artifacts
):
    pipeline, catalog = saving(tmp_path, **settings)
    catalog.save("out", "text")
    saved = tracking.catalog_files.saved_files(
        "now", [tmp_path / "out.txt"], pipeline, catalog
    )
    options = {"kedro_id": "now", "started": 0.0, "complete": True}
    for artifact in tracking.artifacts.requested(
        {}, saved, pipeline, catalog, **options
    ):
        tracking.artifacts.log(active_run.info.run_id, artifact)
    assert recorded(project)[0].artifacts == artifacts
    skipped = ["out.txt is over max_mb: not logged as an artifact"]
    assert messages == (skipped if settings.get("max_mb", 1) < 1 else [])


def test_a_file_of_an_earlier_run_was_not_saved_by_this_one(tracking, tmp_path):
    pipeline, catalog = saving(tmp_path, artifact_path="texts")
    catalog.save("out", "text")
    file = tmp_path / "out.txt"
    assert tracking.catalog_files.saved_files(
        "now", [file], pipeline, catalog
    ).keys() == {"out"}
    assert not tracking.catalog_files.saved_files("now", [], pipeline, catalog)


@pytest.mark.parametrize("runner", ["SequentialRunner", "ThreadRunner"])
def test_a_runs_files_are_artifacts_under_every_runner(
    tracking, session_run, project, runs_of, runner
):
    import kedro.runner

    catalog = project / "conf/base/catalog.yml"
    entry = "  metadata: {mlflow: {artifact_path: texts}}\n"
    more = "".join(
        f"{name}:\n  type: text.TextDataset\n  filepath: data/{name}.txt\n{entry}"
        for name in ("one", "two")
    )
    catalog.write_text(catalog.read_text() + more)
    pipeline = Pipeline([Node(lambda: "text", None, name) for name in ("one", "two")])
    session_run(pipeline, runner=getattr(kedro.runner, runner)())
    (run,) = runs_of()
    assert {"texts/one.txt", "texts/two.txt"} <= run.artifacts


# Failures


def failing(table):
    raise ValueError("no password=hidden: postgresql://me:hidden@host/db")


def test_a_failure_is_described_without_secrets_and_logged(
    tracking, active_run, project
):
    pipeline = Pipeline([Node(failing, "a", "b", name="fails")])
    try:
        failing(1)
    except ValueError as error:
        failure = tracking.failures.describe_failure(error, pipeline, catalog_of())
    assert failure["failure.node"] == "fails"
    assert failure["failure.error"].startswith("ValueError: no ")
    assert "me:hidden" not in failure["failure.error"] + failure["traceback"]
    tracking.failures.log_failure(active_run.info.run_id, failure)
    (run,) = recorded(project)
    assert run.tags["failure.node"] == "fails"
    assert run.artifacts == {"failure/traceback.txt"}


def test_a_failure_without_a_traceback_has_tags_alone(tracking, active_run, project):
    tracking.failures.log_failure(active_run.info.run_id, {"failure.error": "killed"})
    (run,) = recorded(project)
    assert run.tags["failure.error"] == "killed" and not run.artifacts


def test_a_long_error_is_cut(tracking):
    error = ValueError("x" * 10_000)
    failure = tracking.failures.describe_failure(error, Pipeline([]), catalog_of())
    assert len(failure["failure.error"]) == 8000
    assert failure["failure.node"] == "unknown"


@pytest.mark.parametrize(
    "text, node",
    [
        ("File x, line 1, in failing\n  raise", "one"),
        ("Failed to load dataset 'middle'", "one"),
        ("cannot write data/end.txt", "two"),
        ("nothing known", "unknown"),
    ],
)
def test_the_failed_node_is_found_in_the_text_of_a_worker(tracking, text, node):
    pipeline = Pipeline(
        [
            Node(failing, "start", "middle", name="one"),
            Node(copy, "middle", "end", name="two"),
        ]
    )
    entry = {"type": "text.TextDataset", "filepath": "data/end.txt"}
    error = RuntimeError(text)
    assert (
        tracking.failures.failed_node(error, text, pipeline, catalog_of(end=entry))
        == node
    )


def test_the_failed_node_is_that_of_the_sessions_task(session_run, runs_of):
    nodes = [
        Node(lambda: 1, None, "a", name="works"),
        Node(failing, "a", "b", name="fails"),
    ]
    with pytest.raises(ValueError, match="no password"):
        session_run(Pipeline(nodes))
    (run,) = runs_of()
    assert run.tags["failure.node"] == "fails"
    assert "failure/traceback.txt" in run.artifacts
