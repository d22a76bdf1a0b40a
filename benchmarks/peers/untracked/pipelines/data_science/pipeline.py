"""The generated project's pipeline without what speaks to MLflow."""

from kedro.pipeline import Node, Pipeline

from .figures import draw_confusion, draw_quality
from .nodes import measure, predict, train_model


def create_pipeline(**kwargs) -> Pipeline:
    return Pipeline(
        [
            Node(train_model, ["train", "params:model_options"], "model"),
            Node(predict, ["model", "test"], "predictions"),
            Node(measure, ["test", "predictions"], "metrics"),
            Node(draw_confusion, ["test", "predictions"], "confusion_matrix"),
            Node(draw_quality, ["model", "test", "predictions"], "quality"),
        ]
    )
