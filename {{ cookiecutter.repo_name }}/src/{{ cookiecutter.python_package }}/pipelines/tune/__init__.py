"""From the tables to the best of many candidates, logged and judged as any model."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
