"""``tracking.catalog_files``: the files and versions behind Kedro's datasets."""

from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline


def copy(value):
    return value


def test_the_version_that_is_loaded_is_the_input(tracking, tmp_path):
    entry = {
        "type": "text.TextDataset",
        "filepath": str(tmp_path / "a.txt"),
        "versioned": True,
    }
    catalog = DataCatalog.from_config({"a": entry})
    assert (
        tracking.catalog_files.dataset_file("a", catalog) is None
    )  # the node will say so
    for version in ("2026-01-01T00.00.00.000Z", "2026-01-02T00.00.00.000Z"):
        (tmp_path / "a.txt" / version).mkdir(parents=True)
        (tmp_path / "a.txt" / version / "a.txt").write_text(version)
    catalog = DataCatalog.from_config({"a": entry})
    assert tracking.catalog_files.dataset_file("a", catalog).path.read_text() == version
    older = tracking.catalog_files.dataset_file(
        "a", catalog, "2026-01-01T00.00.00.000Z"
    )
    assert older.path.read_text() == "2026-01-01T00.00.00.000Z"


def test_a_file_of_an_earlier_run_was_not_saved_by_this_one(tracking, tmp_path):
    file = tmp_path / "out.txt"
    entry = {"type": "text.TextDataset", "filepath": str(file)}
    catalog = DataCatalog.from_config({"out": entry})
    pipeline = Pipeline([Node(copy, "text", "out")])
    catalog.save("out", "text")
    assert tracking.catalog_files.saved_files(
        "now", [file], pipeline, catalog
    ).keys() == {"out"}
    assert not tracking.catalog_files.saved_files("now", [], pipeline, catalog)
