"""What people see of models and runs in the browser."""

import os
import shutil
import socket
import subprocess
import time
import urllib.request

import pytest
from conftest import PACKAGE, ROOT, clean_environment
from mlflow import MlflowClient

pytestmark = pytest.mark.slow


@pytest.fixture
def page():
    """Return a page of a headless browser."""
    names = ("chromium", "chromium-browser", "google-chrome")
    installed = next(filter(None, map(shutil.which, names)), None)
    if not installed:
        pytest.skip(f"no browser: none of {', '.join(names)} is on PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu"]
        chromium = playwright.chromium.launch(executable_path=installed, args=options)
        page = chromium.new_page(viewport={"width": 1500, "height": 1000})
        page.set_default_timeout(60_000)
        yield page
        chromium.close()


@pytest.fixture
def ui(project, kedro, bin_):
    """Return the address of the UI over a champion and a challenger."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = f"sqlite:///{project}/mlflow.db"
    kedro("run")
    kedro("run", "--params=model_options.C=0.0001")
    options = (f"--port={port}", f"--backend-store-uri={store}", "--workers=1")
    server = subprocess.Popen(
        [bin_ / "mlflow", "ui", *options],
        cwd=project,
        env=clean_environment(PATH=f"{bin_}{os.pathsep}{os.environ['PATH']}"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/#"
    finally:
        server.terminate()
        server.wait(30)


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
    assert picture.evaluate("element => element.naturalWidth") == 1300
    page.screenshot(path=shots / "quality.png")

    both = f'["{best.run_id}","{worse.run_id}"]'
    page.goto(f'{ui}/compare-runs?runs={both}&experiments=["1"]')
    page.get_by_text("Comparing 2 Runs from 1 Experiment").wait_for()
    for version in (best, worse):
        shown = f"{float(version.tags['registry.score']):.5f}"
        page.get_by_text(shown).first.wait_for()
    page.screenshot(path=shots / "comparison.png")
