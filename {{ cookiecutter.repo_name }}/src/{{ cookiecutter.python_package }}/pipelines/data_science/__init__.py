"""From the tables to a logged model and its measured quality."""

from .figures import draw_or_say_why
from .nodes import label_names, predict
from .pipeline import create_pipeline

__all__ = ["create_pipeline", "draw_or_say_why", "label_names", "predict"]
