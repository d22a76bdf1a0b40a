"""A project from Kedro's own template, which has nothing to do with flowers."""

from pathlib import Path

from runs import path_of

NAME = "orders"
PIPELINE = '''
"""A pipeline that has nothing to do with flowers."""

from kedro.pipeline import Node, Pipeline


def sum_up(orders, vat):
    if vat < 0:
        raise ValueError(f"a VAT of {vat}")
    return float(orders["price"].sum() * (1 + vat))


def create_pipeline(**kwargs) -> Pipeline:
    return Pipeline([Node(sum_up, ["orders", "params:vat"], "total", name="sum_up")])
'''
CATALOG = """
orders: {type: pandas.CSVDataset, filepath: orders.csv}
total:
  type: json.JSONDataset
  filepath: total.json
  metadata: {mlflow: {artifact_path: totals}}
"""


def make(run, bin_: Path, folder: Path) -> Path:
    """Make the project by ``kedro new``, with one pipeline; return its folder.

    Args:
        run: Runs the command, such as ``runs.run`` or that of the ``ForkServer``.
        bin_: The ``bin`` of the environment.
        folder: Where the project's folder will be.
    """
    options = ("--tools=none", "--example=no", "--telemetry=no", f"--name={NAME}")
    run(bin_ / "kedro", "new", *options, cwd=folder, PATH=path_of(bin_))
    project = folder / NAME
    sums = project / "src" / NAME / "pipelines" / "sums"
    sums.mkdir()
    (sums / "__init__.py").write_text(PIPELINE)
    (project / "conf/base/catalog.yml").write_text(CATALOG)
    (project / "conf/base/parameters.yml").write_text("vat: 0.25\n")
    (project / "orders.csv").write_text("item,price\ntea,4\nmilk,2\n")
    return project


def add_hooks(project: Path, package: str) -> None:
    """Add the two lines of ``docs/add-to-your-project.md`` to the settings.

    Args:
        project: The project's folder.
        package: Where the hooks are: ``mlflow_iris.tracking``, or ``.tracking``.
    """
    with (project / "src" / NAME / "settings.py").open("a") as settings:
        settings.write(f"\nfrom {package} import MLflowRunHooks\n")
        settings.write("\nHOOKS = (MLflowRunHooks(),)\n")
