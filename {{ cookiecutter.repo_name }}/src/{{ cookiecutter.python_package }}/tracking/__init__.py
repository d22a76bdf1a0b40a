"""Record every pipeline run of Kedro as one MLflow run. Nothing here needs editing.

Put ``MLflowRunHooks()`` into the ``HOOKS`` of ``settings.py``; it works in any Kedro
project and imports nothing from the project around it. Nodes may use the other names
below. The modules, from the bottom up; each imports only from those before it:

- ``names``, ``environment``: names and limits of MLflow's; its environment variables,
  set by the user or by us
- ``secret_names``, ``secret_patterns``, ``redact``: hide secrets in everything that is
  recorded
- ``database``, ``client``, ``config``: the tracking store; connecting; ``mlflow.yml``
- ``store_check``: can runs be recorded there? For the project's ``check.py``
- ``file_notes``, ``data_locks``: which run wrote a file; a run's files are its own
- ``parameters``, ``catalog_files``, ``datasets``, ``code``, ``provenance``,
  ``artifacts``, ``failures``: what is recorded of a run
- ``pending_runs``, ``recovery``: ends runs whose process died
- ``active_run``, ``hooks``: open, join and end the run at Kedro's moments
- ``training_rows``, ``models``, ``registry``, ``comparison``, ``promotion``: models and
  the champion
- ``column_counts``, ``drift``, ``monitoring``: does a deployed model meet what it was
  trained on, and what is it worth today?
- ``search``: one child run for each candidate of a search
- ``commands``: ``kedro runs``, ``replay``, ``share``, ``receive``; may be deleted
"""

import atexit
import gc
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .hooks import MLflowRunHooks
from .parameters import log_metrics

if TYPE_CHECKING:
    from .column_counts import Counters, bin_shares, describe
    from .drift import DriftOptions
    from .models import load_model, sklearn_log_kwargs
    from .monitoring import (
        QualityOptions,
        Watch,
        load_watched_model,
        report_drift,
        report_quality,
    )
    from .promotion import PromoteOptions, promote
    from .search import Candidate, log_search

__all__ = [
    "Candidate",
    "Counters",
    "DriftOptions",
    "MLflowRunHooks",
    "PromoteOptions",
    "QualityOptions",
    "Watch",
    "bin_shares",
    "describe",
    "load_model",
    "load_watched_model",
    "log_metrics",
    "log_search",
    "promote",
    "report_drift",
    "report_quality",
    "sklearn_log_kwargs",
]

# Settings import this package for every command of Kedro. These modules import MLflow
# and pandas, which takes a second, and so wait for the first node that uses a name.
FOR_NODES = ("column_counts", "drift", "models", "monitoring", "promotion", "search")


def __getattr__(name: str) -> Any:
    """Return one of the names for nodes; import the module that has it."""
    if name in __all__:
        modules = (import_module(f"{__name__}.{module}") for module in FOR_NODES)
        return next(vars(module)[name] for module in modules if name in vars(module))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# The libraries make a million objects that live until the end. To search them for
# garbage, again and again and once more at exit, would be a quarter of a run's time.
gc.set_threshold(10_000)
atexit.register(gc.freeze)
