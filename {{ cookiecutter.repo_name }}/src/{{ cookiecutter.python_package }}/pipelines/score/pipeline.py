"""The scoring pipeline, which is not part of ``__default__``."""

from kedro.pipeline import Node, Pipeline

from .figures import draw_drift
from .nodes import check_drift, refuse_drift, score_flowers


def create_pipeline(**kwargs) -> Pipeline:
    """Predict the species of new flowers, chunk by chunk, and look for drift."""
    return Pipeline(
        [
            Node(
                score_flowers,
                inputs=["new_flowers", "params:score_options"],
                outputs=["scored_flowers", "watch"],
                name="score_flowers",
            ),
            Node(
                check_drift,
                inputs=["watch", "params:drift_options"],
                outputs="drift",
                name="check_drift",
            ),
            Node(draw_drift, "drift", "drift_picture", name="draw_drift"),
            Node(
                refuse_drift,
                inputs=["drift", "params:drift_options"],
                outputs=None,
                name="refuse_drift",
            ),
        ]
    )
