"""``tracking/`` knows nothing of the project that it lies in."""

import ast
import re
from pathlib import Path

import pytest
from runs import PACKAGE
from sklearn.metrics import get_scorer_names
from sklearn.utils import all_estimators


@pytest.fixture
def tracking(generated) -> Path:
    """Return the package that the projects can share."""
    return generated / "src" / PACKAGE / "tracking"


def test_tracking_imports_nothing_of_the_project(tracking):
    files = list(tracking.glob("*.py"))
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level < 2, file.name
                assert node.level or node.module.partition(".")[0] != PACKAGE, file.name
            elif isinstance(node, ast.Import):
                assert PACKAGE not in [n.name.partition(".")[0] for n in node.names]


def test_tracking_has_no_word_of_flowers_columns_estimators_or_scorers(tracking):
    flowers = "iris flowers? species setosa versicolor virginica sepal\\w* petal\\w*"
    estimators = {name for name, _ in all_estimators()} - {"Pipeline"}
    options = "max_iter test_size random_state"
    words = [*flowers.split(), *options.split(), *estimators, *get_scorer_names()]
    known = re.compile(rf"\b({'|'.join(words)})\b")
    for file in tracking.glob("*.py"):
        assert known.findall(file.read_text("utf-8")) == [], file.name


def test_nodes_find_each_name_of_the_package_and_no_other(module):
    package = module("tracking")
    for name in package.__all__:
        found = getattr(package, name)
        assert found.__name__ == name and found.__module__.startswith(package.__name__)
    with pytest.raises(AttributeError, match="no attribute 'digest_rows'"):
        package.digest_rows  # noqa: B018
