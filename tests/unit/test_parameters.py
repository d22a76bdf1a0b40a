"""``tracking.parameters``: parameters and metrics of a run."""

import mlflow
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline


def copy(value):
    return value


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


def test_metrics_are_logged_under_the_namespace_of_the_node(tracking, active_run):
    tracking.parameters.log_metrics({"accuracy": 0.5})
    token = tracking.names.node_namespace.set("forest")
    try:
        tracking.parameters.log_metrics({"accuracy": 0.75})
    finally:
        tracking.names.node_namespace.reset(token)
    metrics = mlflow.get_run(active_run.info.run_id).data.metrics
    assert metrics == {"accuracy": 0.5, "forest.accuracy": 0.75}
