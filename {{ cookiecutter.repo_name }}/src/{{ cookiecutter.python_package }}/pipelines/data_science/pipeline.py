"""The data science pipeline."""

from kedro.pipeline import Node, Pipeline

from .nodes import draw_quality, log_model, predict, report_accuracy, train_model


def create_pipeline(**kwargs) -> Pipeline:
    """Train a model, log it, let it predict, and measure how well it does."""
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
                outputs=["metrics", "confusion_matrix"],
                name="report_accuracy",
            ),
            Node(
                func=draw_quality,
                inputs=["model", "test", "predictions"],
                outputs="quality",
                name="draw_quality",
            ),
        ]
    )
