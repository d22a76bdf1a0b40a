"""The wheel of a project, without the project."""

import shutil
from pathlib import Path

from runs import PACKAGE, build_environment, path_of, recorded, run


def test_the_wheel_runs_where_there_is_no_project(project, bin_, tmp_path):
    run(bin_ / "kedro", "package", cwd=project, PATH=path_of(bin_))
    (wheel,) = (project / "dist").glob("*.whl")
    (conf,) = (project / "dist").glob("conf-*.tar.gz")
    theirs = build_environment(tmp_path / "environment", wheel)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copytree(project / "data/01_raw", elsewhere / "data/01_raw")
    source = f"--conf-source={shutil.copy(conf, elsewhere)}"
    shutil.rmtree(project)
    run(theirs / "python", "-m", PACKAGE, source, cwd=elsewhere)
    (one,) = recorded(elsewhere)
    assert one.status == "FINISHED" and one.metrics["accuracy"] >= 0.9
    assert Path(one.tags["python.executable"]).parent == theirs
