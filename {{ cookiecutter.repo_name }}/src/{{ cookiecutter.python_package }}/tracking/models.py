"""Logged models: what they need to load elsewhere, and loading them."""

import importlib.util
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
from click import ClickException
from mlflow.entities import LoggedModelInput
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from . import names, provenance, redact, training_rows

# Of MLflow's flavours: the library, and where its version is noted.
LIBRARIES = {
    "sklearn": ("scikit-learn", "sklearn_version"),
    "xgboost": ("xgboost", "xgb_version"),
    "lightgbm": ("lightgbm", "lgb_version"),
    "catboost": ("catboost", "cb_version"),
}
TRAINING_RECORD_KEY = "training_record"  # in the model's metadata
# What every logged model needs, also where the project does not name it.
NEEDED = ("mlflow", "scikit-learn", "skops")


def package_folder() -> Path:
    """Return the folder of the project's package."""
    name = names.project_package()
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.origin:
        raise ClickException(f"The project's package {name} has no __init__.py")
    return Path(spec.origin).resolve().parent


def sklearn_log_kwargs(
    model: Any, train: Any = None, record: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return arguments for ``mlflow.sklearn.log_model``: the model loads elsewhere.

    The types to trust, for the model was just made here; the project's requirements,
    pinned to what is installed; its code, if the model holds functions of it.

    Args:
        model: The fitted model.
        train: The table that it was trained on. The model keeps digests of its rows,
            by which ``promote`` recognises them among test rows.
        record: What the training looked like, see ``monitoring.Watch``. The model keeps
            it, wherever it goes, to be compared with what it meets later.

    Raises:
        ClickException: skops cannot save the model, or Kedro is needed to load it.
    """
    types = untrusted_types(model)
    if not mlflow.active_run() and "MLFLOW_RUN_ID" in os.environ:
        mlflow.start_run()  # in a spawned worker, which runs no hooks
    package = package_folder()
    ours = [name for name in types if name.startswith(f"{package.name}.")]
    if ours:
        check_loads_without_kedro(ours, package)
    kept = {} if train is None else training_rows.describe(train) or {}
    if record:  # as text, which YAML reads fast
        kept[TRAINING_RECORD_KEY] = json.dumps(record, separators=(",", ":"))
    return {
        "serialization_format": "skops",
        "skops_trusted_types": types or None,
        "pip_requirements": pinned_requirements(package),
        "code_paths": [str(package)] if ours else None,
        "metadata": kept or None,
    }


def untrusted_types(model: Any) -> list[str]:
    """Return the types in a model that skops loads only if they are named."""
    try:
        import skops.io
    except ImportError:
        raise ClickException(
            "scikit-learn models are saved by skops, which is not installed: "
            'pip install "skops>=0.13,<1"'
        ) from None
    try:
        return skops.io.get_untrusted_types(data=skops.io.dumps(model))
    except Exception as error:
        raise ClickException(
            f"skops cannot save this {type(model).__name__}: "
            f"{redact.first_line(error)} -- log it by MLflow's own flavour for it, "
            "such as mlflow.lightgbm.log_model or mlflow.pyfunc.log_model"
        ) from error


def check_loads_without_kedro(types: list[str], package: Path) -> None:
    """Refuse code that cannot be imported where a model is served."""
    modules = sorted({name.rpartition(".")[0] for name in types})
    script = f"import sys; sys.modules['kedro'] = None; import {', '.join(modules)}"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=package.parent, capture_output=True, text=True)
    if done.returncode:
        raise ClickException(
            f"The model holds {', '.join(types)}, which cannot be imported where it is "
            f"served: {done.stderr.strip().rpartition(chr(10))[2]} -- move it into a "
            f"file of its own, such as {package.name}/features.py, without Kedro"
        )


def pinned_requirements(package: Path) -> list[str]:
    """Return the project's requirements but Kedro's, pinned to what is installed."""
    file = package.parents[1] / "requirements.txt"
    if file.is_file():
        lines = file.read_text("utf-8").splitlines()
    else:  # installed from a wheel
        owners = metadata.packages_distributions().get(package.name, [])
        lines = [line for owner in owners for line in metadata.requires(owner) or ()]
    pinned: dict[str, str] = {}
    # Models load without this library, which may have been installed by an address.
    library = canonicalize_name(__name__.partition(".")[0])
    for line in (*lines, *NEEDED):
        try:
            wanted = Requirement(line.partition("#")[0].strip())
            present = metadata.version(wanted.name)
        except (InvalidRequirement, metadata.PackageNotFoundError):
            continue  # an option of pip, a comment, or another platform's
        name = canonicalize_name(wanted.name)
        left_out = name == library or name.startswith("kedro")
        if not left_out and "extra ==" not in line:
            extras = f"[{','.join(sorted(wanted.extras))}]" if wanted.extras else ""
            pinned.setdefault(name, f"{wanted.name}{extras}=={present}")
    return list(pinned.values())


def load_model(uri: str) -> Any:
    """Load a model as it was logged, an estimator; see ``load_logged_model``."""
    return load_logged_model(uri).get_raw_model()


def load_logged_model(uri: str) -> Any:
    """Load a model, and log it as an input of the active run.

    Args:
        uri: MLflow's: ``models:/NAME@ALIAS``, ``models:/NAME/3``, ``runs:/ID/model``.

    Returns:
        MLflow's wrapper of the model, which knows its metadata.

    Raises:
        ClickException: There is no such model, or it cannot be loaded.
    """
    then = provenance.replay_tags(varied=True)
    exact = f"models:/{then['model.id']}" if then.get("model.uri") == uri else uri
    loaded = load_pyfunc(exact)
    about = loaded.metadata
    if mlflow.active_run() and about.model_id:
        mlflow.set_tags(
            {"model.uri": uri, "model.id": about.model_id, "model.run_id": about.run_id}
        )
        mlflow.log_input(model=LoggedModelInput(about.model_id))
    return loaded


def load_pyfunc(uri: str) -> Any:
    """Load a model as MLflow's pyfunc, with its metadata.

    Raises:
        ClickException: There is no such model, it cannot be loaded, or it does not work
            with the versions that are installed.
    """
    try:
        loaded = mlflow.pyfunc.load_model(uri)
    except Exception as error:
        raise ClickException(
            f"Cannot load the model {uri}: {redact.first_line(error)} -- {advice(uri)}"
        ) from error
    made = other_versions(loaded.metadata.flavors)
    if made and (failure := error_on_example(loaded)):
        raise ClickException(
            f"The model {uri} does not work here ({redact.first_line(failure)}): it "
            f"was made with {made}"
        ) from failure
    return loaded


def advice(uri: str) -> str:
    """Say what to do about a model that cannot be loaded."""
    try:
        made = other_versions(mlflow.models.get_model_info(uri).flavors)
    except Exception:  # there is no such model, or nothing can be read of it
        made = ""
    if made:
        return f"it was made with other versions: {made}"
    return (
        "train one with `kedro run`, or name another by its URI: "
        "models:/NAME@ALIAS, models:/NAME/3 or runs:/ID/model"
    )


def other_versions(flavors: dict[str, Any]) -> str:
    """Say which versions a model was made with, and what to install; empty if these."""
    made: dict[str, str] = {}
    for flavor, (library, key) in LIBRARIES.items():
        then = flavors.get(flavor, {}).get(key)
        try:
            now = metadata.version(library)
        except metadata.PackageNotFoundError:
            now = "none"
        if then and then != now:
            made[f"{library}=={then}"] = f"{library} {then}, here is {now}"
    if not made:
        return ""
    return f"{'; '.join(made.values())} -- pip install {' '.join(made)}"


def error_on_example(loaded: Any) -> Exception | None:
    """Return why a model fails on its own input example, if it does."""
    try:
        if (example := loaded.input_example) is not None:
            loaded.predict(example)
    except Exception as error:
        return error
    return None


def fails_on_data_only(loaded: Any, error: Exception) -> bool:
    """Tell whether a model fails only because of the data: other columns or labels.

    On its own input example it works then; a failure of memory, of the network, or of
    a library fails there too, or is no error of a value.
    """
    if loaded.input_example is None:
        return isinstance(error, (ValueError, KeyError))
    of_values = isinstance(error, (ValueError, KeyError, TypeError))
    return of_values and error_on_example(loaded) is None
