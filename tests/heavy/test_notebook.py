"""The project's notebook, run from its first cell to its last."""

import json

from runs import path_of, run

NOTEBOOK = "notebooks/explore.ipynb"
READ = f"""
import json
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
for cell in json.load(open("{NOTEBOOK}", encoding="utf-8"))["cells"]:
    if cell["cell_type"] == "code":
        shell.run_cell("".join(cell["source"])).raise_error()
found = shell.user_ns
drawn = [collection for collection in found["axes"].collections]
print(json.dumps({{
    "accuracies": list(found["runs"]["metrics.accuracy"]),
    "errors": len(found["errors"]),
    "flowers": len(found["test"]),
    "points": sum(len(collection.get_offsets()) for collection in drawn),
    "crosses": len(found["axes"].lines[0].get_xdata()),
}}))
"""


def test_it_is_kept_without_output(generated):
    cells = json.loads((generated / NOTEBOOK).read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code and not any(c["outputs"] or c["execution_count"] for c in code)


def test_it_finds_the_best_runs_and_draws_the_champions_errors(project, kedro, bin_):
    kedro("run", "--params=model_options.C=0.0001")
    kedro("run")
    path = {"PATH": path_of(bin_), "MPLBACKEND": "Agg"}
    told = run(bin_ / "python", "-c", READ, cwd=project, **path).stdout
    found = json.loads(told.splitlines()[-1])
    best, worst = found["accuracies"]
    assert best > worst
    assert found["errors"] == round((1 - best) * found["flowers"])
    assert found["points"] == found["flowers"]
    assert found["crosses"] == found["errors"]


def test_jupyter_runs_it_where_the_project_brings_jupyter(project, kedro, workbench):
    kedro("run")
    path = {"PATH": path_of(workbench)}
    run(workbench / "jupyter", "execute", "--inplace", NOTEBOOK, cwd=project, **path)
    cells = json.loads((project / NOTEBOOK).read_text("utf-8"))["cells"]
    assert any("image/png" in output["data"] for output in cells[-1]["outputs"])
