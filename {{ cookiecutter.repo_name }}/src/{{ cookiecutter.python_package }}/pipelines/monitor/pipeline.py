"""The monitoring pipeline, which is not part of ``__default__``."""

from kedro.pipeline import Node, Pipeline

from .figures import draw_quality_today
from .nodes import check_quality, predict_again, refuse_worse


def create_pipeline(**kwargs) -> Pipeline:
    """Measure a model on rows whose true labels have arrived."""
    return Pipeline(
        [
            Node(
                predict_again,
                inputs=["labelled_flowers", "params:monitor_options"],
                outputs=["truth", "predictions_today", "watched_model"],
                name="predict_again",
            ),
            Node(
                check_quality,
                inputs=["truth", "predictions_today", "watched_model"]
                + ["params:monitor_options"],
                outputs="quality_today",
                name="check_quality",
            ),
            Node(
                draw_quality_today,
                inputs="quality_today",
                outputs="quality_today_picture",
                name="draw_quality_today",
            ),
            Node(
                refuse_worse,
                inputs=["quality_today", "params:monitor_options"],
                outputs=None,
                name="refuse_worse",
            ),
        ]
    )
