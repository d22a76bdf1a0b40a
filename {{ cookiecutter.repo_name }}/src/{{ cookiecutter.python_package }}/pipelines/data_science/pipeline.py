"""The data science pipeline."""

from kedro.pipeline import Node, Pipeline

from .figures import draw_confusion, draw_quality
from .nodes import (
    describe_training,
    log_model,
    predict,
    promote_model,
    report_accuracy,
    train_model,
)


def create_pipeline(**kwargs) -> Pipeline:
    """Train a model, log it, measure how well it predicts, and decide on its use."""
    return Pipeline(
        [
            Node(
                train_model,
                inputs=["train", "params:model_options"],
                outputs="model",
                name="train_model",
            ),
            Node(predict, ["model", "test"], "predictions", name="predict"),
            Node(
                report_accuracy,
                inputs=["test", "predictions"],
                outputs="metrics",
                name="report_accuracy",
            ),
            Node(
                describe_training,
                inputs=["train", "predictions", "metrics"],
                outputs="training_record",
                name="describe_training",
            ),
            Node(
                log_model,
                inputs=[
                    "model",
                    "train",
                    "test",
                    "params:log_options",
                    "training_record",
                ],
                outputs="model_uri",
                name="log_model",
            ),
            Node(
                draw_confusion,
                inputs=["test", "predictions"],
                outputs="confusion_matrix",
                name="draw_confusion",
            ),
            Node(
                draw_quality,
                inputs=["model", "test", "predictions"],
                outputs="quality",
                name="draw_quality",
            ),
            Node(
                promote_model,
                inputs=["model_uri", "metrics", "test", "params:promote_options"],
                outputs="promotion",
                name="promote_model",
            ),
        ]
    )
