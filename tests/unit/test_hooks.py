"""``tracking.hooks``: real Kedro sessions on a real store."""

import pytest
from kedro.pipeline import Node, Pipeline


def one(function, outputs="out"):
    return Pipeline([Node(function, None, outputs, name="only")])


def test_a_run_that_succeeds_is_finished(session_run, runs_of):
    session_run(one(lambda: 1))
    (run,) = runs_of()
    assert run.status == "FINISHED"


def test_a_node_that_raises_is_named(session_run, runs_of):
    def fail():
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        session_run(one(fail))
    (run,) = runs_of()
    assert run.status == "FAILED" and run.tags["failure.node"] == "only"


def test_the_whole_pipeline(session_run, runs_of):
    session_run()
    (run,) = runs_of()
    assert run.metrics["accuracy"] > 0.9
