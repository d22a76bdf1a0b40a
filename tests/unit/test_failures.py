"""``tracking.failures``: node, error and traceback of a failed run."""

import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline
from runs import recorded


def copy(value):
    return value


def failing(table):
    raise ValueError("no password=hidden: postgresql://me:hidden@host/db")


def test_a_failure_is_described_without_secrets_and_logged(
    tracking, active_run, project
):
    pipeline = Pipeline([Node(failing, "a", "b", name="fails")])
    try:
        failing(1)
    except ValueError as error:
        failure = tracking.failures.describe_failure(error, pipeline, DataCatalog())
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
    failure = tracking.failures.describe_failure(error, Pipeline([]), DataCatalog())
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
        tracking.failures.failed_node(
            error, text, pipeline, DataCatalog.from_config({"end": entry})
        )
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
