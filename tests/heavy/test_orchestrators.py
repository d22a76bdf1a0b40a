"""Airflow takes what Kedro-Airflow makes of the project."""

from runs import PACKAGE, build_environment, path_of, run


def test_kedro_airflow_makes_a_dag_that_airflow_takes(project, tmp_path):
    packages = (
        "apache-airflow>=3",
        "kedro-airflow",
        "-r",
        project / "requirements.txt",
    )
    airflow = build_environment(tmp_path / "airflow", *map(str, packages))
    env = {"PATH": path_of(airflow), "AIRFLOW_HOME": str(tmp_path / "home")}
    create = ("airflow", "create", f"--target-dir={tmp_path}")
    run(airflow / "kedro", *create, cwd=project, **env)
    ask = f"from {PACKAGE}_dag import {PACKAGE}; print(*{PACKAGE}().task_ids)"
    done = run(airflow / "python", "-c", ask, cwd=tmp_path, **env)
    nodes = {"split-data", "train-model", "log-model", "predict", "report-accuracy"}
    nodes |= {"describe-training", "draw-confusion", "draw-quality", "promote-model"}
    assert set(done.stdout.splitlines()[-1].split()) == nodes
