"""``compare_branches.py`` of a generated project, but for the runs themselves."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture
def script(generated):
    """Return the script as a module."""
    file = generated / "compare_branches.py"
    spec = importlib.util.spec_from_file_location("compare_branches", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def a_run(value: float | None, better: str = "more", margin: str = "0.0") -> dict:
    """Return a run as ``kedro runs --format json`` lists it."""
    options = {"metric": "accuracy", "better": better, "margin": margin}
    parameters = {f"promote_options.{name}": text for name, text in options.items()}
    metrics = {} if value is None else {"accuracy": value}
    return {"metrics": metrics, "parameters": parameters}


@pytest.mark.parametrize(
    "then, now, options, worse",
    [
        (0.9, 0.9, {}, False),
        (0.9, 0.95, {}, False),
        (0.9, 0.85, {}, True),
        (0.9, 0.85, {"margin": "0.05"}, False),
        (0.9, 0.84, {"margin": "0.05"}, True),
        (0.1 + 0.2, 0.3, {}, False),  # no more than a rounding error
        (0.9, 0.85, {"better": "less"}, False),
        (0.9, 0.95, {"better": "less"}, True),
    ],
)
def test_a_metric_that_falls_by_more_than_the_margin_is_worse(
    script, then, now, options, worse
):
    said, found = script.compare_metric(a_run(then, **options), a_run(now, **options))
    assert found == worse
    assert said.startswith(f"**accuracy**: {then:.4g} there, {now:.4g} here.")
    assert ("It is worse by more than" in said) == worse


def test_the_options_are_those_of_this_branch(script):
    base, here = a_run(0.9, margin="0.0"), a_run(0.85, margin="0.1")
    assert script.compare_metric(base, here)[1] is False


@pytest.mark.parametrize(
    "then, now, expected",
    [
        (None, 0.9, ("**accuracy** was not measured there.", False)),
        (0.9, None, ("**accuracy** was not measured here.", True)),
    ],
)
def test_a_metric_that_is_missing_is_named(script, then, now, expected):
    assert script.compare_metric(a_run(then), a_run(now)) == expected


def test_the_same_requirements_take_the_same_environment(script, project, tmp_path):
    assert script.environment_of(project, tmp_path) == Path(sys.executable)


def test_the_confusion_matrix_is_a_table(script, trained_project):
    header, rule, *rows = script.confusion_matrix(trained_project).splitlines()
    assert header == "| true \\ predicted | setosa | versicolor | virginica |"
    assert rule == "| --- | --- | --- | --- |"
    cells = [row.strip("| ").split(" | ") for row in rows]
    assert [label for label, *_ in cells] == ["setosa", "versicolor", "virginica"]
    assert sum(int(number) for _, *numbers in cells for number in numbers) == 30


def test_a_command_that_fails_is_named(script, capfd):
    with pytest.raises(SystemExit) as caught:
        script.call("git", "rev-parse", "nonsense")
    assert caught.value.code == 2
    assert capfd.readouterr().err.endswith("`git rev-parse nonsense` has failed.\n")


def test_a_confusion_matrix_that_nobody_could_read_is_left_out(
    script, trained_project, monkeypatch
):
    monkeypatch.setattr(script, "MAX_CELLS", 8)
    said = script.confusion_matrix(trained_project)
    assert said == "There are too many labels to show: 3."
