"""The script of docs/spark.md on a real Spark, beside the project's own scoring."""

import re
import shutil

import pandas as pd
import pytest
import recipes
from pandas.testing import assert_frame_equal
from recipes import type_in
from runs import ROOT, build_environment

PAGE = ROOT / "docs" / "spark.md"
ROWS = 1000
# Nothing is reached from elsewhere; several partitions, several batches in each.
SPARK = """
spark.ui.enabled false
spark.sql.files.maxPartitionBytes 20000
spark.sql.files.openCostInBytes 0
spark.sql.execution.arrow.maxRecordsPerBatch 64
"""


@pytest.fixture
def flowers(project) -> pd.DataFrame:
    """Return flowers as they are in the project's flowers.parquet."""
    iris = pd.read_csv(project / "data/01_raw/iris.csv").drop(columns="species")
    table = iris.sample(ROWS, replace=True, random_state=0, ignore_index=True)
    for name in table:
        table[name] = (table[name] + table.index % 7 / 10).round(2)
    table.insert(0, "flower", [f"{row:06d}" for row in range(ROWS)])
    table["visits"] = range(ROWS)
    table["soil"] = [None if row % 3 else "clay" for row in range(ROWS)]
    table.to_parquet(project / "flowers.parquet", index=False, row_group_size=100)
    return table


def test_spark_scores_a_table_as_the_project_does(
    project, kedro, flowers, tmp_path, monkeypatch
):
    if not shutil.which("java"):
        pytest.skip("no Java: apt-get install default-jre-headless")
    packages = ("-r", str(project / "requirements.txt"), "pyspark")
    spark = build_environment(tmp_path / "spark", *packages)
    (script,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    (project / "score_on_spark.py").write_text(script)
    (tmp_path / "spark-defaults.conf").write_text(SPARK)
    kedro("run")
    monkeypatch.setattr(recipes, "PAGE", PAGE)
    title = "Score a table on Spark"
    here = {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_CONF_DIR": str(tmp_path)}
    type_in(project, spark, title, **here)

    parts = list((project / "scored.parquet").glob("part-*"))
    assert len(parts) > 1
    scored = pd.concat(map(pd.read_parquet, parts)).sort_values("flower")
    assert scored.shape == (ROWS, flowers.shape[1] + 1)
    kept = scored[list(flowers)].reset_index(drop=True)
    assert_frame_equal(kept, flowers, check_exact=True)

    kedro("run", "--pipelines=score", "--params=score_options.input=flowers.parquet")
    own = pd.read_csv(
        project / "data/07_model_output/scored_flowers.csv", dtype={"flower": str}
    )
    assert list(own["flower"]) == list(scored["flower"])
    assert list(own["species"]) == list(scored["species"])
    assert set(own["species"]) == {"setosa", "versicolor", "virginica"}
