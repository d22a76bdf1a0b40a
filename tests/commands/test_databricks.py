"""Databricks without credentials."""


def test_without_credentials_a_run_ends_in_one_line(project, kedro):
    done = kedro("run", "--env=databricks", ok=False, HOME=str(project), COLUMNS="300")
    *_, last = done.stderr.strip().splitlines()
    assert last.startswith("Error: MLflow cannot record runs at databricks")
    assert "Traceback" not in done.stderr
    assert not list((project / "data" / "02_intermediate").glob("*.parquet"))
