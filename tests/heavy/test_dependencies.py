"""`uv add` adds a dependency; the shipped test names its other two places."""

import re
import shutil
import sys

from runs import recorded, run

TEST = ("pytest", "-q", "tests/test_requirements.py")


def test_uv_adds_a_dependency_and_makes_the_environment(project, empty_store):
    shutil.copy(empty_store, project / "mlflow.db")
    env = {"UV_PYTHON": sys.executable, "VIRTUAL_ENV": ""}
    run("uv", "add", "--quiet", "seaborn", cwd=project, **env)
    pyproject = (project / "pyproject.toml").read_text()
    (line,) = re.findall(r'"(seaborn>=[^"]+)"', pyproject)

    failed = run("uv", "run", *TEST, cwd=project, ok=False, **env)
    assert failed.returncode == 1
    for name in ("requirements.txt", "conda.yaml"):
        assert f"add to {name}, as in pyproject.toml: ['{line}']" in failed.stdout
    with (project / "requirements.txt").open("a") as file:
        file.write(f"{line}\n")
    with (project / "conda.yaml").open("a") as file:
        file.write(f"      - {line}\n")
    run("uv", "run", *TEST, cwd=project, **env)

    shutil.rmtree(project / ".venv")
    run("uv", "sync", "--quiet", cwd=project, **env)
    python = project / ".venv" / "bin" / "python"
    run(python, "-c", "import seaborn, pytest", cwd=project.parent)
    run(project / ".venv" / "bin" / "kedro", "run", cwd=project)
    (one,) = recorded(project)
    assert one.status == "FINISHED"
