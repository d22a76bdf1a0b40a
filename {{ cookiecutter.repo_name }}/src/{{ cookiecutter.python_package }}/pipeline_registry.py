"""Project pipelines."""

from kedro.framework.project import find_pipelines
from kedro.pipeline import Pipeline

EXCLUDED_FROM_DEFAULT = ("monitor", "score", "tune")  # run by their names only


def register_pipelines() -> dict[str, Pipeline]:
    """Map each pipeline's name to the pipeline; ``__default__`` trains."""
    pipelines = find_pipelines(raise_errors=True)
    training = [
        pipeline
        for name, pipeline in pipelines.items()
        if name not in EXCLUDED_FROM_DEFAULT
    ]
    pipelines["__default__"] = sum(training, Pipeline([]))
    return pipelines
