"""The project's notebook, run from its first cell to its last."""

import json

from runs import path_of

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


def test_it_finds_the_best_runs_and_draws_the_champions_errors(
    trained_project, kedro, fork, bin_
):
    kedro("run", "--params=model_options.C=0.0001")
    path = {"PATH": path_of(bin_), "MPLBACKEND": "Agg"}
    told = fork.run(bin_ / "python", "-c", READ, cwd=trained_project, **path).stdout
    found = json.loads(told.splitlines()[-1])
    best, worst = found["accuracies"]
    assert best > worst
    assert found["errors"] == round((1 - best) * found["flowers"])
    assert found["points"] == found["flowers"]
    assert found["crosses"] == found["errors"]
