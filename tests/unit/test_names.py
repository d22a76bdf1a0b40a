"""``tracking.names``: names as MLflow takes them."""

import pytest


@pytest.mark.parametrize(
    "name, clean",
    [("a:b?c", "a_b_c"), ("é-ü", "é-ü"), ("a/../b/", "a/b"), ("..", "_"), ("", "_")],
)
def test_names_are_as_mlflow_takes_them(tracking, name, clean):
    assert tracking.names.clean_name(name) == clean
    assert tracking.names.data_tag(name, "digest") == f"data.{clean}.digest"


def test_long_names_are_cut(tracking):
    assert len(tracking.names.clean_name("n" * 300)) == tracking.names.MAX_NAME


def test_a_name_within_a_namespace_begins_with_it(tracking):
    assert tracking.names.with_namespace("x") == "x"
    token = tracking.names.node_namespace.set("forest")
    try:
        assert tracking.names.with_namespace("x") == "forest.x"
    finally:
        tracking.names.node_namespace.reset(token)


@pytest.mark.parametrize(
    "text, quoted", [("a", "'a'"), ("a'b", '"a\'b"'), ("a'\"b", "")]
)
def test_a_text_is_quoted_for_a_filter(tracking, text, quoted):
    assert tracking.names.quoted(text) == quoted
