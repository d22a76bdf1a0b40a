"""Parameters and metrics of a run."""

import copy
import difflib
import logging
import math
from typing import Any

from click import ClickException
from omegaconf import OmegaConf

from . import names, redact, secret_names

logger = logging.getLogger(__name__)


def flatten(parameters: dict[str, Any]) -> dict[str, str]:
    """Turn nested parameters into MLflow's: dotted names, values as text.

    A list is one value. Characters that MLflow refuses in names become ``_``, long
    names and values are cut, and secrets are hidden.
    """
    flat: dict[str, str] = {}
    todo: list[tuple[str, Any, str]] = [("", parameters, "")]
    while todo:  # not by recursion, which has an end
        name, value, secret = todo.pop()
        value = redact.as_plain(value)
        if isinstance(value, dict) and (value or not name):
            todo += [
                (f"{name}.{key}", child, secret_names.secret_name(key, secret))
                for key, child in reversed(value.items())
            ]
            continue
        name = names.clean_name(name.removeprefix(".").replace("/", "_"))
        while name in flat:
            name = name[: names.MAX_NAME - 1] + "_"
        flat[name] = str(redact.mask_values(value, secret))[: names.MAX_VALUE]
    return flat


def parse_value(text: str) -> Any:
    """Read a parameter as Kedro reads it from the command line: ``1e-2`` is 0.01."""
    try:
        return OmegaConf.from_dotlist([f"value={text}"])["value"]
    except Exception:  # not YAML: a text
        return text


def used_parameters(
    pipeline: Any, catalog: Any, given: dict[str, Any]
) -> dict[str, str]:
    """Return the parameters that the nodes take, and those of the command line."""
    flat = flatten(given)
    for name in sorted(pipeline.inputs()):
        if name == "parameters":
            flat |= flatten(catalog.get(name).load())
        elif name.startswith("params:"):
            flat |= flatten({name.removeprefix("params:"): catalog.get(name).load()})
    return flat


def log_metrics(metrics: dict[str, float], model_id: str | None = None) -> None:
    """Log metrics to the active run, and to a model, under the node's namespace."""
    import mlflow

    named = {names.with_namespace(name): value for name, value in metrics.items()}
    mlflow.log_metrics(named, model_id=model_id)


def expand_dotted(parameters: dict[str, Any]) -> dict[str, Any]:
    """Expand dotted names, as Kedro's command line does and its server does not."""
    if not any("." in name for name in parameters):
        return parameters
    found = OmegaConf.create()
    for name, value in parameters.items():
        OmegaConf.update(found, name, value)
    plain: Any = OmegaConf.to_container(found)
    return plain


def check_options(pipeline: Any, catalog: Any) -> None:
    """Call ``check()`` of typed parameters that have it, before anything runs."""
    for name in pipeline.inputs():
        if name.startswith("params:") and (parameter := catalog.get(name)):
            if callable(check := getattr(parameter.load(), "check", None)):
                check()


def refuse_misspelt(loader: Any, given: dict[str, Any]) -> None:
    """Refuse ``--params`` that are nearly declared; a new name may be meant."""
    declared = copy.copy(loader)
    declared.runtime_params = {}
    known = list(declared["parameters"])
    for name in set(given) - set(known):
        if near := difflib.get_close_matches(name, known, n=1):
            raise ClickException(
                f"Unknown parameter: {name}. Did you mean {near[0]}? "
                f"parameters.yml has: {', '.join(known)}."
            )
        logger.warning("Parameter %s is new: no parameters.yml has it.", name)


def require_word(option: str, value: Any, *words: str) -> None:
    """Refuse a value that is none of these words."""
    if value not in words:
        raise ClickException(f"{option} is {' or '.join(words)}, not {value!r}.")


def require_number(
    option: str, value: Any, low: float = -math.inf, high: float = math.inf
) -> None:
    """Refuse a value that is no number, or out of range."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or math.isnan(value):
        raise ClickException(f"{option} is no number: {value!r}")
    if not low <= value <= high:
        limits = f"from {low} to {high}" if high < math.inf else f"at least {low}"
        raise ClickException(f"{option} is {limits}, not {value!r}.")
