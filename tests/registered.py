"""What the registry of MLflow's present store holds."""

import mlflow
from mlflow import MlflowClient
from runs import PACKAGE


def versions(name: str = PACKAGE) -> list:
    """Return the versions, oldest first."""
    found = MlflowClient().search_model_versions(f"name = '{name}'")
    return sorted(found, key=lambda version: int(version.version))


def aliases(name: str = PACKAGE) -> dict[str, int]:
    found = MlflowClient().get_registered_model(name).aliases
    return {alias: int(version) for alias, version in found.items()}


def last_run():
    return mlflow.search_runs(
        search_all_experiments=True, output_format="list", max_results=1
    )[0]
