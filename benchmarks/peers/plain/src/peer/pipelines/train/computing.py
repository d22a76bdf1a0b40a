"""The pipeline that all peers have in common, without MLflow."""

import logging

from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]


def split_data(iris, test_size, random_state):
    return train_test_split(
        iris, test_size=test_size, random_state=random_state, stratify=iris["species"]
    )


def train_model(train, C, max_iter):
    model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=max_iter))
    return model.fit(train[FEATURES], train["species"].to_numpy(dtype=object))


def predict(model, test):
    return model.predict(test[FEATURES])


def report_accuracy(test, predictions):
    accuracy = float(accuracy_score(test["species"].to_numpy(), predictions))
    logging.getLogger(__name__).info("Accuracy %.3f", accuracy)
    return accuracy
