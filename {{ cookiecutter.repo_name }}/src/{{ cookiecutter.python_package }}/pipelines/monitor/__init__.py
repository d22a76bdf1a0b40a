"""From flowers whose species are known by now to what a model is worth today."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
