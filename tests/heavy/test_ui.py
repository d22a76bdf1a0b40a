"""What people see of models and runs in the browser."""

from contextlib import contextmanager
from urllib.parse import quote

import pytest
from mlflow import MlflowClient
from runs import PACKAGE, ROOT, free_port, path_of, recorded, serving, write_flowers

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


@contextmanager
def mlflow_ui(project, bin_):
    """Start `mlflow ui` over a project's store; yield the address of its pages."""
    port, log = free_port(), project / "ui.log"
    store = f"--backend-store-uri=sqlite:///{project}/mlflow.db"
    words = (bin_ / "mlflow", "ui", f"--port={port}", store, "--workers=1")
    path = path_of(bin_)
    with serving(*words, port=port, log=log, cwd=project, PATH=path) as (url, _):
        yield f"{url}/#"


@pytest.fixture
def ui(project, kedro, bin_):
    """Return the address of the UI over a champion and a challenger."""
    kedro("run")
    kedro("run", "--params=model_options.C=0.0001")
    with mlflow_ui(project, bin_) as url:
        yield url


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


@pytest.fixture
def scorings(trained_project, kedro):
    """Score three tables with the champion, the last drifted; return their runs."""
    for month, longer in (("january", 0), ("february", 0.2), ("march", 3)):
        table = trained_project / f"{month}.csv"
        write_flowers(table, trained_project, labelled=False, petal_length=longer)
        kedro("run", "--pipelines=score", f"--params=score_options.input={table}")
    made = [run for run in recorded(trained_project) if "drift.verdict" in run.tags]
    assert len(made) == 3
    return made


def test_the_champions_page_shows_what_each_scoring_measured(
    trained_project, scorings, bin_, page
):
    for metric in ("drift.petal_length.ks", "mean_probability"):
        assert len({run.metrics[metric] for run in scorings}) == 3
    verdict = scorings[-1].tags["drift.verdict"]
    assert "petal_length" in verdict
    shots = ROOT / "artifacts"
    shots.mkdir(exist_ok=True)
    with mlflow_ui(trained_project, bin_) as ui:
        page.goto(f"{ui}/models/{PACKAGE}/versions/1")
        page.get_by_text(verdict, exact=True).wait_for()
        page.get_by_text(scorings[-1].id, exact=True).wait_for()

        page.get_by_role("link", name="model", exact=True).click()
        search = page.get_by_placeholder("Search metrics")
        for metric in sorted(scorings[0].metrics.keys() - {"rows"}):
            search.fill(metric)
            cells = page.get_by_text(metric, exact=True)
            cells.nth(2).wait_for()
            rows = page.get_by_role("row").filter(has=cells)
            assert rows.count() == 3
            for run in scorings:
                (row,) = rows.filter(has_text=run.name).all()
                *_, shown = row.inner_text().split("\n")
                assert float(shown) == run.metrics[metric]
        page.screenshot(path=shots / "scorings.png")

        chosen = quote("tags.`kedro.pipeline` = 'score'")
        mode = "compareRunsMode=CHART"
        page.goto(f"{ui}/experiments/1/runs?searchFilter={chosen}&{mode}")
        page.get_by_text("3 matching runs").wait_for()
        page.get_by_placeholder("Search metric charts").fill("drift.petal_length.ks")
        for run in scorings:
            bar = f"{run.metrics['drift.petal_length.ks']:.2f}"
            page.get_by_text(bar, exact=True).first.wait_for()
        page.screenshot(path=shots / "scorings_chart.png")
