"""The data engineering pipeline."""

from kedro.pipeline import Node, Pipeline

from .nodes import split_data


def create_pipeline(**kwargs) -> Pipeline:
    """Split the raw data."""
    return Pipeline(
        [
            Node(
                split_data,
                inputs=["iris", "params:split_options"],
                outputs=["train", "test"],
                name="split_data",
            ),
        ]
    )
