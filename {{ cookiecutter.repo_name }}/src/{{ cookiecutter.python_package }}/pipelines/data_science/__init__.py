"""From the tables to a logged model and its measured quality."""

from . import nodes
from .pipeline import create_pipeline

__all__ = ["create_pipeline", "nodes"]
