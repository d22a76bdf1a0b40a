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
