"""MLflow's environment variables: which the user has set, and which this package has.

For each variable ``X`` that we set, ``KEDRO_X`` keeps the same value. While the two are
equal the value is ours, and the next run may change it; otherwise it is the user's.
``check.py`` and ``config.sh`` of a project rely on this, too.
"""

import os


def variables() -> dict[str, str]:
    """Return all variables; MLflow's telemetry may remove one of them meanwhile."""
    found = {name: os.environ.get(name) for name in list(os.environ)}
    return {name: value for name, value in found.items() if value is not None}


def set_env(name: str, value: str) -> None:
    """Set a variable, for child processes too, and mark it as ours."""
    os.environ[name] = os.environ[f"KEDRO_{name}"] = value


def set_default(name: str, value: str) -> None:
    """Set a variable unless the user has set it."""
    if not user_env(name):
        set_env(name, value)


def unset_env(name: str) -> None:
    """Remove a variable that we have set."""
    if not user_env(name):
        os.environ.pop(name, None)


def user_env(name: str) -> str | None:
    """Return the value of a variable that the user has set; None if it is ours."""
    value = os.environ.get(name)
    return None if value == os.environ.get(f"KEDRO_{name}") else value
