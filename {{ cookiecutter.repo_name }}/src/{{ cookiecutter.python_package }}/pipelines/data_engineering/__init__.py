"""From raw data to the tables that models are trained and tested on."""

from . import nodes
from .pipeline import create_pipeline

__all__ = ["create_pipeline", "nodes"]
