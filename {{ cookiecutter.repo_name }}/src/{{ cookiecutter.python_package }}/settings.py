"""Project settings, read by Kedro."""

from .tracking import MLflowRunHooks

HOOKS = (MLflowRunHooks(),)

# What `conf/local` or `--params` leave out of a group stays as it is in `conf/base`.
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "merge_strategy": {"parameters": "soft"},
}
