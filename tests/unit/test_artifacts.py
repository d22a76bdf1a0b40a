"""``tracking.artifacts``: files that the catalog wants logged."""

from datetime import datetime, timezone

import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline
from runs import recorded

LONG_AGO = datetime(2000, 1, 1, tzinfo=timezone.utc)


def copy(value):
    return value


def saving(tmp_path, **settings):
    """Return a pipeline that saves a file, and the catalog entry of that file."""
    entry = {
        "type": "text.TextDataset",
        "filepath": str(tmp_path / "out.txt"),
        "metadata": {"mlflow": settings},
    }
    return Pipeline([Node(copy, "text", "out")]), DataCatalog.from_config(
        dict(out=entry)
    )


@pytest.mark.parametrize(
    "settings, artifacts",
    [
        ({"artifact_path": "texts"}, {"texts/out.txt"}),
        ({"artifact_path": ""}, {"out.txt"}),
        ({"artifact_path": "texts", "max_mb": 1}, {"texts/out.txt"}),
        ({"artifact_path": "texts", "max_mb": 0.000001}, set()),
        ({}, set()),
    ],
)
def test_a_file_is_an_artifact_if_its_entry_asks_and_it_is_small(
    tracking, active_run, project, tmp_path, messages, settings, artifacts
):
    pipeline, catalog = saving(tmp_path, **settings)
    catalog.save("out", "text")
    saved = tracking.catalog_files.saved_files(
        "now", [tmp_path / "out.txt"], pipeline, catalog
    )
    options = {"kedro_id": "now", "started": LONG_AGO, "complete": True}
    for artifact in tracking.artifacts.requested(
        {}, saved, pipeline, catalog, **options
    ):
        tracking.artifacts.log(active_run.info.run_id, artifact)
    assert recorded(project)[0].artifacts == artifacts
    skipped = ["out.txt is over max_mb: not logged as an artifact"]
    assert messages == (skipped if settings.get("max_mb", 1) < 1 else [])


@pytest.mark.parametrize("runner", ["SequentialRunner", "ThreadRunner"])
def test_a_runs_files_are_artifacts_under_every_runner(
    tracking, session_run, project, runs_of, runner
):
    import kedro.runner

    catalog = project / "conf/base/catalog.yml"
    entry = "  metadata: {mlflow: {artifact_path: texts}}\n"
    more = "".join(
        f"{name}:\n  type: text.TextDataset\n  filepath: data/{name}.txt\n{entry}"
        for name in ("one", "two")
    )
    catalog.write_text(catalog.read_text() + more)
    pipeline = Pipeline([Node(lambda: "text", None, name) for name in ("one", "two")])
    session_run(pipeline, runner=getattr(kedro.runner, runner)())
    (run,) = runs_of()
    assert {"texts/one.txt", "texts/two.txt"} <= run.artifacts
