"""The generated project's settings without its hooks: nothing is tracked."""

import atexit
import gc

gc.set_threshold(10_000)
atexit.register(gc.freeze)

CONFIG_LOADER_ARGS = {"base_env": "base", "default_run_env": "local"}
