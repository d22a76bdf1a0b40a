"""The data science pipeline."""

from kedro.pipeline import Node, Pipeline

from .figures import draw_quality
from .nodes import log_model, predict, promote_model, report_accuracy, train_model


def create_pipeline(**kwargs) -> Pipeline:
    """Train a model, log it, measure how well it predicts, and decide on its use."""
    return Pipeline(
        [
            Node(
                func=train_model,
                inputs=["train", "params:model_options"],
                outputs="model",
                name="train_model",
            ),
            Node(
                func=log_model,
                inputs=["model", "test"],
                outputs="model_uri",
                name="log_model",
            ),
            Node(
                func=predict,
                inputs=["model", "test"],
                outputs="predictions",
                name="predict",
            ),
            Node(
                func=report_accuracy,
                inputs=["test", "predictions"],
                outputs="metrics",
                name="report_accuracy",
            ),
            Node(
                func=draw_quality,
                inputs=["model", "test", "predictions"],
                outputs=["confusion_matrix", "quality"],
                name="draw_quality",
            ),
            Node(
                func=promote_model,
                inputs=["model_uri", "metrics", "test", "params:promote_options"],
                outputs="promotion",
                name="promote_model",
            ),
        ]
    )
