"""The tuning pipeline, which is not part of ``__default__``."""

from kedro.pipeline import Node, Pipeline

from .. import data_engineering, data_science
from .nodes import draw_search, tune_model


def create_pipeline(**kwargs) -> Pipeline:
    """Put a search in the place of the training; all other nodes are the training's."""
    training = data_science.create_pipeline()
    train = training.only_nodes("train_model")
    search = Pipeline(
        [
            Pipeline(train, outputs={"model": "untuned"}),
            Node(
                tune_model,
                inputs=["untuned", "train", "params:tune_options", "params:parallel"],
                outputs=["model", "candidates"],
                name="tune_model",
            ),
            Node(draw_search, "candidates", "search", name="draw_search"),
        ]
    )
    return data_engineering.create_pipeline() + search + (training - train)
