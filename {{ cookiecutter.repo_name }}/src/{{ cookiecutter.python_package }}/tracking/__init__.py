"""Every pipeline run is one MLflow run: the machinery, with nothing to edit.

- ``hooks``: the life of the run, which is opened or joined, and truthfully ended
- ``store``: where runs go, and what is said when they cannot
- ``provenance``: parameters, data, code and packages, which made a run
- ``artifacts``: files that catalog entries ask to be logged
- ``redact``: hides secrets in everything that is recorded
- ``registry``: registered versions, and the champion among them
- ``search``: child runs, one for each candidate that was tried
- ``origin``: the command, code and packages that repeat a run
- ``runs``, ``replay``, ``share``: commands of ``kedro``, which ``cli.py`` lists
- ``record``: a run apart from any store

It knows nothing of the project around it: with ``MLflowRunHooks()`` in the ``HOOKS``
of its settings it works in any Kedro project. Nodes may use the other names below.
"""

import atexit
import gc

from .hooks import MLflowRunHooks
from .provenance import log_metrics, portable
from .registry import PromoteOptions, load_model, promote
from .search import Candidate, log_search

__all__ = [
    "Candidate",
    "MLflowRunHooks",
    "PromoteOptions",
    "load_model",
    "log_metrics",
    "log_search",
    "portable",
    "promote",
]

# The libraries make a million objects that live until the end. To search them for
# garbage, again and again and once more at exit, would be a quarter of a run's time.
gc.set_threshold(10_000)
atexit.register(gc.freeze)
