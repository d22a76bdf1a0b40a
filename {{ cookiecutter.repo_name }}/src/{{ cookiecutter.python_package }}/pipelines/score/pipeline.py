"""The scoring pipeline, which is not part of ``__default__``."""

from kedro.pipeline import Node, Pipeline

from .nodes import score_flowers


def create_pipeline(**kwargs) -> Pipeline:
    """Predict the species of new flowers, chunk by chunk."""
    return Pipeline(
        [
            Node(
                score_flowers,
                inputs=["new_flowers", "params:score_options"],
                outputs="scored_flowers",
                name="score_flowers",
            ),
        ]
    )
