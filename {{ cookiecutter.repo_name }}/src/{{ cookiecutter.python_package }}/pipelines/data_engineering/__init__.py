"""From raw data to the tables that models are trained and tested on."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
