"""``tracking.commands.formats``: tables, Markdown and JSON."""

import json

import pytest


def test_long_values_are_cut_and_columns_aligned(tracking):
    shown = tracking.commands.formats.table(
        [("a", "b" * 41, "c"), ("aaa", "b" * 40, "")]
    )
    assert shown.splitlines() == [
        f"a    {'b' * 39}…  c",
        f"aaa  {'b' * 40}",
    ]


def test_markdown_takes_values_as_they_are(tracking):
    shown = tracking.commands.formats.markdown([("a", "b"), ("x|y", "`<b>`\n")])
    assert shown.splitlines() == [
        "| a | b |",
        "| --- | --- |",
        "| `x\\|y` | `'<b>'?` |",
    ]


def test_json_has_no_number_that_is_none(tracking):
    text = tracking.commands.formats.to_json({"a": [float("nan"), 1.5], "b": "ü"})
    assert json.loads(text, parse_constant=pytest.fail) == {"a": ["nan", 1.5], "b": "ü"}


def test_what_steers_a_terminal_is_not_printed(tracking):
    assert tracking.commands.formats.table([("\x1b[2J", "b")]) == "?[2J  b"
