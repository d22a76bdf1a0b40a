"""Project settings, read by Kedro."""

import atexit
import gc

from .tracking import MLflowRunHooks

HOOKS = (MLflowRunHooks(),)

# What `conf/local` or `--params` leave out of a group stays as it is in `conf/base`.
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "merge_strategy": {"parameters": "soft"},
}

# The libraries make a million objects that live until the end. Searching them for
# garbage, again and again and once more at exit, would be a quarter of a run's time.
gc.set_threshold(10_000)
atexit.register(gc.freeze)
