"""MLflow called in the nodes, as the article of 2019 does, with today's names."""

from datetime import datetime

import mlflow
import mlflow.sklearn

from . import computing
from .computing import predict, split_data

__all__ = ["predict", "report_accuracy", "split_data", "train_model"]


def train_model(train, C, max_iter):
    model = computing.train_model(train, C, max_iter)
    mlflow.log_artifact("data/01_raw/iris.csv")
    mlflow.sklearn.log_model(model, name="model")
    return model


def report_accuracy(test, predictions):
    accuracy = computing.report_accuracy(test, predictions)
    mlflow.log_metric("accuracy", accuracy)
    mlflow.set_tag("time of prediction", str(datetime.now()))
    return accuracy
