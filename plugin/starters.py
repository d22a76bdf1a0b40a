"""The starter for ``kedro new --starter=mlflow-iris``, once it is pip-installed."""

from pathlib import Path

from kedro.framework.cli.starters import KedroStarterSpec

# The wheel has the template in the package, beside this file.
starters = [KedroStarterSpec("mlflow-iris", str(Path(__file__).resolve().parent))]
