"""What several of the heavy tests start from."""

import shutil
from pathlib import Path

import pytest
from paused import pause_training


@pytest.fixture
def pausing_project(project, empty_store) -> Path:
    """Return a project with a store of its own; its ``train_model`` waits."""
    shutil.copy(empty_store, project / "mlflow.db")
    return pause_training(project)
