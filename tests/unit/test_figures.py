"""``figures``: pictures of models with and without probabilities."""

import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]


@pytest.mark.parametrize("estimator, plots", [(LogisticRegression, 3), (LinearSVC, 1)])
def test_pictures_show_what_a_model_gives(module, generated, estimator, plots):
    iris = pd.read_csv(generated / "data/01_raw/iris.csv")
    model = estimator().fit(iris[FEATURES], iris["species"])
    nodes = module("pipelines.data_science.nodes")
    figures = module("pipelines.data_science.figures")
    predictions = nodes.predict(model, iris)
    confusion = figures.draw_confusion(iris, predictions)
    quality = figures.draw_quality(model, iris, predictions)
    assert len(confusion.axes) == 1
    assert len(quality.axes) == plots
    names = [text.get_text() for text in quality.axes[0].get_yticklabels()]
    assert names == FEATURES


def test_the_confusion_matrix_counts_each_pair_of_labels(module):
    figures = module("pipelines.data_science.figures")
    test = pd.DataFrame({"species": [2, 2, 10, 10, 10]}, index=[5, 6, 7, 8, 9])
    predictions = pd.DataFrame({"species": [2, 10, 10, 10, 1]})
    (ax,) = figures.draw_confusion(test, predictions).axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["1", "2", "10"]
    cells = [text.get_text() for text in ax.texts]
    assert cells == ["0", "0", "0", "0", "1", "1", "1", "0", "2"]
