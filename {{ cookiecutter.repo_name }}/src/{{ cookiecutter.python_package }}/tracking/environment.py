"""Environment variables of MLflow: which the user has set, and which we have."""

from __future__ import annotations

import os


def set_env(name: str, value: str) -> None:
    """Set a variable of MLflow, for child processes too, and mark it as ours."""
    os.environ[name] = os.environ[f"KEDRO_{name}"] = value


def unset_env(name: str) -> None:
    """Remove a variable of MLflow that we have set."""
    if not user_env(name):
        os.environ.pop(name, None)


def user_env(name: str) -> str | None:
    """Return an environment variable of MLflow that the caller has set, not we."""
    value = os.environ.get(name)
    return None if value == os.environ.get(f"KEDRO_{name}") else value
