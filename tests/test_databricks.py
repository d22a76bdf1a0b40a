"""What can be known of Databricks without an account of it."""

import json
import re
import shutil
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml
from databricks.sdk.service.jobs import JobSettings
from google.protobuf.json_format import MessageToDict, ParseDict
from mlflow import MlflowClient
from mlflow.protos import databricks_uc_registry_messages_pb2 as uc
from mlflow.protos.databricks_uc_registry_service_pb2 import UcModelRegistryService
from mlflow.utils.rest_utils import extract_all_api_info_for_service
from runs import PACKAGE, path_of, recorded, run

MODEL = f"main.default.{PACKAGE}"


def job(project) -> dict:
    """Return the job of databricks.yml, as the bundle sends it."""
    bundle = yaml.safe_load((project / "databricks.yml").read_text())
    (settings,) = bundle["resources"]["jobs"].values()
    return settings


def test_the_job_of_the_bundle_is_what_the_jobs_api_takes(generated):
    settings = job(generated)
    assert JobSettings.from_dict(settings).as_dict() == settings
    train, score = settings["tasks"]
    (environment,) = settings["environments"]
    assert environment["environment_key"] == train["environment_key"]
    assert score["depends_on"] == [{"task_key": train["task_key"]}]
    assert score["python_wheel_task"]["parameters"][-1] == "--pipelines=score"


def test_conf_databricks_names_datasets_and_parameters_of_base(generated):
    for file in ("catalog.yml", "parameters.yml", "mlflow.yml"):
        base, there = (
            yaml.safe_load((generated / "conf" / env / file).read_text())
            for env in ("base", "databricks")
        )
        assert there.keys() <= base.keys()
    for name, entry in yaml.safe_load(
        (generated / "conf/databricks/catalog.yml").read_text()
    ).items():
        base = yaml.safe_load((generated / "conf/base/catalog.yml").read_text())[name]
        same = ("type", "load_args", "validator")
        assert [entry.get(key) for key in same] == [base.get(key) for key in same]


@pytest.mark.slow
def test_the_wheel_runs_as_the_job_runs_it(project, bin_, tmp_path):
    """Outside of the project, with a folder for a volume and a store on this disk."""
    run(bin_ / "kedro", "package", cwd=project, PATH=path_of(bin_))
    (wheel,) = (project / "dist").glob("*.whl")
    site, machine, volume = (tmp_path / name for name in ("site", "machine", "volume"))
    install = ("uv", "pip", "install", "--quiet", "--no-deps", "--target")
    run(*install, site, wheel, cwd=tmp_path)
    machine.mkdir()
    shutil.copytree(project / "data" / "01_raw", volume)
    file = project / "conf" / "databricks" / "globals.yml"
    file.write_text(re.sub("/Volumes/.*", str(volume), file.read_text()))
    conf = shutil.move(project / "conf", tmp_path / "conf")
    settings = job(project)
    shutil.rmtree(project)

    env = {"PYTHONPATH": str(site), "PATH": path_of(bin_)}
    env["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path}/store.db"
    for task in settings["tasks"]:
        wheel_task = task["python_wheel_task"]
        (found,) = metadata.distributions(
            name=wheel_task["package_name"], path=[str(site)]
        )
        (entry,) = found.entry_points.select(name=wheel_task["entry_point"])
        call = f"from {entry.module} import {entry.attr}; {entry.attr}()"
        words = [
            word.replace("${workspace.file_path}/conf", str(conf))
            for word in wheel_task["parameters"]
        ]
        run(bin_ / "python", "-c", call, *words, cwd=machine, **env)
    trained, scored = recorded(tmp_path, "store.db")
    assert trained.status == scored.status == "FINISHED"
    assert trained.experiment == f"/Shared/{PACKAGE}"
    assert trained.tags["kedro.env"] == "databricks"
    assert trained.tags["registry.version"] == f"models:/{MODEL}/1"
    assert scored.tags["model.uri"] == f"models:/{MODEL}@champion"
    rows = (volume / "scored_flowers.csv").read_text().splitlines()
    assert len(rows) == len((volume / "new_flowers.csv").read_text().splitlines())
    assert {file.name for file in volume.iterdir()} == {
        "iris.csv",
        "new_flowers.csv",
        "scored_flowers.csv",
    }
    client = MlflowClient(env["MLFLOW_TRACKING_URI"], env["MLFLOW_TRACKING_URI"])
    assert client.get_registered_model(MODEL).aliases == {"champion": 1}


# Path and method, with the message that MLflow's own definitions name for them.
ENDPOINTS = {
    (endpoint, method): request
    for request, calls in extract_all_api_info_for_service(
        UcModelRegistryService, "/api/2.0"
    ).items()
    for endpoint, method in calls
}
VERSIONS = [{"name": MODEL, "version": str(n), "source": f"m-{n}"} for n in range(1, 4)]
ASK = f"""
import sys
sys.path.insert(0, "src")
import mlflow
from {PACKAGE}.tracking import registry
print(mlflow.get_registry_uri())
print(registry.champion("{MODEL}"), sorted(registry.latest("{MODEL}")))
registry.make("{MODEL}", "champion", "3")
print(registry.champion("{MODEL}"))
"""


@contextmanager
def unity_catalog():
    """Serve aliases and versions of one model; yield the address and what was asked."""
    aliases, asked = {}, []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            given = json.loads(body) if body else dict(parse_qsl(url.query))
            if (url.path, self.command) not in ENDPOINTS:
                return self.send_error(404)  # the SDK asks for what hosts may offer
            request = ParseDict(given, ENDPOINTS[url.path, self.command]())
            asked.append((type(request).__name__, self.headers["Authorization"]))
            status, said = 200, {}
            match request:
                case uc.SetRegisteredModelAliasRequest():
                    aliases[request.alias] = request.version
                case uc.GetModelVersionByAliasRequest() if request.alias in aliases:
                    version = VERSIONS[int(aliases[request.alias]) - 1]
                    known = uc.GetModelVersionByAliasResponse()
                    said = MessageToDict(ParseDict({"model_version": version}, known))
                case uc.GetModelVersionByAliasRequest():
                    status, code = 404, "RESOURCE_DOES_NOT_EXIST"
                    said = {"error_code": code, "message": "no such alias"}
                case uc.SearchModelVersionsRequest():
                    known = uc.SearchModelVersionsResponse()
                    said = MessageToDict(ParseDict({"model_versions": VERSIONS}, known))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = answer

        def log_message(self, *_) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_unity_catalog_understands_what_the_registry_asks(project, bin_):
    with unity_catalog() as (address, asked):
        env = {"DATABRICKS_HOST": address, "DATABRICKS_TOKEN": "dapi-swordfish"}
        env |= {"MLFLOW_TRACKING_URI": "databricks", "COLUMNS": "300"}
        done = run(bin_ / "python", "-c", ASK, cwd=project, **env)
    said = re.findall(r"^(databricks-uc|None .*|\d)$", done.stdout, re.M)
    assert said == ["databricks-uc", "None ['1', '2', '3']", "3"]
    assert {token for _, token in asked} == {"Bearer dapi-swordfish"}


@pytest.mark.slow
def test_without_credentials_a_run_ends_in_one_line(project, kedro):
    done = kedro("run", "--env=databricks", ok=False, HOME=str(project), COLUMNS="300")
    *_, last = done.stderr.strip().splitlines()
    assert last.startswith("Error: MLflow cannot record runs at databricks")
    assert "Traceback" not in done.stderr
    assert not list((project / "data" / "02_intermediate").glob("*.parquet"))
