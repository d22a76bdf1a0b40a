"""Project settings, read by Kedro."""

from omegaconf.resolvers import oc

from .hooks import MLflowRunHooks
from .registry import RegistryHooks

HOOKS = (MLflowRunHooks(), RegistryHooks())

CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "config_patterns": {"mlflow": ["mlflow*", "mlflow*/**", "**/mlflow*"]},
    "custom_resolvers": {"oc.env": oc.env},
}
