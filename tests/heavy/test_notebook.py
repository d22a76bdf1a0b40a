"""The project's notebook in Jupyter."""

import json

from runs import path_of, run

NOTEBOOK = "notebooks/explore.ipynb"


def test_jupyter_runs_it_where_the_project_brings_jupyter(project, kedro, workbench):
    kedro("run")
    path = {"PATH": path_of(workbench)}
    run(workbench / "jupyter", "execute", "--inplace", NOTEBOOK, cwd=project, **path)
    cells = json.loads((project / NOTEBOOK).read_text("utf-8"))["cells"]
    assert any("image/png" in output["data"] for output in cells[-1]["outputs"])
