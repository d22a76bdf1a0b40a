"""From the tables to a logged model and its measured quality."""

from .nodes import label_names, measure, predict
from .pipeline import create_pipeline

__all__ = ["create_pipeline", "label_names", "measure", "predict"]
