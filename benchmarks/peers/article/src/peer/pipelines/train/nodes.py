"""MLflow called in the nodes, as the article of 2019 does, with today's names."""

import logging
from datetime import datetime

import mlflow
import mlflow.sklearn
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
    model.fit(train[FEATURES], train["species"].to_numpy(dtype=object))
    mlflow.log_artifact("data/01_raw/iris.csv")
    mlflow.sklearn.log_model(model, name="model")
    return model


def predict(model, test):
    return model.predict(test[FEATURES])


def report_accuracy(test, predictions):
    accuracy = float(accuracy_score(test["species"].to_numpy(), predictions))
    logging.getLogger(__name__).info("Accuracy %.3f", accuracy)
    mlflow.log_metric("accuracy", accuracy)
    mlflow.set_tag("time of prediction", str(datetime.now()))
    return accuracy
