"""The project's notebook as a file."""

import json

NOTEBOOK = "notebooks/explore.ipynb"


def test_it_is_kept_without_output(generated):
    cells = json.loads((generated / NOTEBOOK).read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code and not any(c["outputs"] or c["execution_count"] for c in code)
