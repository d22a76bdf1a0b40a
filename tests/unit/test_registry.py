"""``tracking.registry``: real models, versions and aliases of a SQLite store."""

import pytest
from mlflow import MlflowClient
from registered import versions
from runs import PACKAGE


@pytest.fixture
def project(project_with_models):
    """Return a project with a champion and three more models."""
    return project_with_models


@pytest.fixture
def tracking(tracking, project):
    """Return the package; MLflow is led to a store with a champion."""
    return tracking


def test_two_that_make_the_first_version_at_once_are_both_registered(tracking, uris):
    """Neither has seen the other's registered model."""
    client, numbers = MlflowClient(), []
    for name in ("weak", "strong"):
        model = client.get_logged_model(uris[name].rpartition("/")[2])
        numbers.append(tracking.registry.register_version(model, "new", {}, new=True))
    assert numbers == ["1", "2"]
    assert versions("new")[0].run_id != versions("new")[1].run_id


def test_a_model_without_a_run_is_registered(tracking, project):
    client = MlflowClient()
    experiment = client.get_experiment_by_name(PACKAGE).experiment_id
    model = client.create_logged_model(experiment, name="m")
    client.log_model_artifacts(model.model_id, str(project / "conf"))
    model = client.finalize_logged_model(model.model_id, "READY")
    number = tracking.registry.register_version(model, "other", {"a": "b"}, new=True)
    (version,) = versions("other")
    assert (number, version.tags, version.run_id or None) == ("1", {"a": "b"}, None)


def test_a_version_is_found_by_model_by_source_and_by_tag(tracking, uris):
    client, model_id = MlflowClient(), uris["strong"].rpartition("/")[2]
    model = client.get_logged_model(model_id)
    tracking.registry.register_version(model, PACKAGE, {}, new=False)
    known = tracking.registry.latest_versions(PACKAGE)
    assert tracking.registry.version_of(model, PACKAGE, known) == "2"
    # Older than the latest versions, of which the registry was asked.
    model = client.get_logged_model(model_id)
    assert tracking.registry.version_of(model, PACKAGE, {}) == "2"
    assert tracking.registry.version_of(model, "another", {}) is None


def test_the_latest_versions_are_known_and_no_others(tracking):
    client, source = MlflowClient(), versions()[0].source
    for _ in range(tracking.registry.MAX_CONCURRENT):
        client.create_model_version(PACKAGE, source)
    known = tracking.registry.latest_versions(PACKAGE)
    assert list(known) == [str(n) for n in range(21, 1, -1)]


def test_no_champion_is_none(tracking):
    assert tracking.registry.champion_version(PACKAGE) == "1"
    assert tracking.registry.champion_version("unknown") is None
    MlflowClient().delete_registered_model_alias(PACKAGE, "champion")
    assert tracking.registry.champion_version(PACKAGE) is None
