"""What people see of models and runs in the browser."""

import pytest
from mlflow import MlflowClient
from runs import PACKAGE, ROOT, free_port, path_of, recorded, serving

FEATURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")


@pytest.fixture
def page(chromium):
    """Return an empty page."""
    page = chromium.new_page(viewport={"width": 1500, "height": 760})
    page.set_default_timeout(60_000)
    # MLflow's assistant stays closed, and its pages are those for trained models.
    page.add_init_script("""
        localStorage['mlflow.assistant.fab.autoOpenedOnFirstLoad_v1'] = 'true';
        localStorage['mlflow.workflowType_v1'] = '"machine_learning"';
    """)
    return page


@pytest.fixture
def ui(project, kedro, bin_):
    """Return the address of the UI over a champion and a challenger."""
    kedro("run")
    kedro("run", "--params=model_options.C=0.0001")
    port, log = free_port(), project / "ui.log"
    store = f"--backend-store-uri=sqlite:///{project}/mlflow.db"
    words = (bin_ / "mlflow", "ui", f"--port={port}", store, "--workers=1")
    path = path_of(bin_)
    with serving(*words, port=port, log=log, cwd=project, PATH=path) as (url, _):
        yield f"{url}/#"


def test_the_data_of_a_run_are_shown_with_their_columns_and_size(ui, page, project):
    page.goto(f"{ui}/experiments/1/runs/{recorded(project)[0].id}")
    page.get_by_text("iris (").first.click()
    drawer = page.get_by_role("dialog")
    drawer.get_by_text("num rows: 150").wait_for()
    for column in FEATURES:
        drawer.get_by_text(column, exact=True).wait_for()


def test_the_champion_its_picture_and_its_rival_are_shown(ui, page, project):
    uri = f"sqlite:///{project}/mlflow.db"
    store = MlflowClient(uri, uri)
    best, worse = (
        store.get_model_version_by_alias(PACKAGE, alias)
        for alias in ("champion", "challenger")
    )
    shots = ROOT / "artifacts"
    shots.mkdir(exist_ok=True)

    page.goto(f"{ui}/models/{PACKAGE}/versions/{best.version}")
    page.get_by_text("champion").first.wait_for()
    for schema in ("Inputs (4)", "Outputs (1)"):
        page.get_by_text(schema).wait_for()
    page.screenshot(path=shots / "model.png")

    page.goto(f"{ui}/experiments/1/runs/{best.run_id}/artifacts/figures/quality.png")
    picture = page.locator("img[alt='figures/quality.png']")
    picture.wait_for()
    drawn = picture.element_handle()
    page.wait_for_function("element => element.complete", arg=drawn)
    assert picture.evaluate("element => element.naturalWidth") == 1350
    page.screenshot(path=shots / "quality.png")

    both = f'["{best.run_id}","{worse.run_id}"]'
    page.goto(f'{ui}/compare-runs?runs={both}&experiments=["1"]')
    page.get_by_text("Comparing 2 Runs from 1 Experiment").wait_for()
    for version in (best, worse):
        shown = f"{float(version.tags['registry.score']):.5f}"
        page.get_by_text(shown).first.wait_for()
    page.screenshot(path=shots / "comparison.png")


@pytest.fixture
def ui_of_config_sh(project, kedro, bin_, tmp_path_factory):
    """Return the address of `mlflow ui`, started elsewhere after config.sh."""
    kedro("run")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    port, log = free_port(), elsewhere / "ui.log"
    script = f"source '{project}/config.sh' && exec mlflow ui --port {port} --workers 1"
    words = ("bash", "-c", script)
    path = path_of(bin_)
    with serving(*words, port=port, log=log, cwd=elsewhere, PATH=path) as (url, _):
        yield url


def test_the_ui_shows_metric_parameter_and_confusion_matrix(
    project, ui_of_config_sh, chromium
):
    (one,) = recorded(project)
    browser = chromium.new_page(viewport={"width": 1900, "height": 1600})
    browser.set_default_timeout(60_000)
    artifacts = ROOT / "artifacts"
    artifacts.mkdir(exist_ok=True)
    browser.goto(f"{ui_of_config_sh}/#/experiments/1/runs/{one.id}")
    for text in ("accuracy", str(one.metrics["accuracy"]), "model_options.C", "200"):
        browser.get_by_text(text, exact=True).first.wait_for()
    browser.screenshot(path=artifacts / "run.png")

    browser.goto(f"{ui_of_config_sh}/#/experiments/1/runs/{one.id}/artifacts")
    browser.get_by_text("figures", exact=True).click()
    browser.get_by_text("confusion_matrix.png", exact=True).click()
    picture = browser.locator("img[alt='figures/confusion_matrix.png']")
    picture.wait_for()
    browser.wait_for_function(
        "element => element.complete", arg=picture.element_handle()
    )
    assert picture.evaluate("element => element.naturalWidth") >= 400
    browser.screenshot(path=artifacts / "confusion_matrix.png")
