"""From new flowers and a registered model to their predicted species."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
