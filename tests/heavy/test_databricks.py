"""What can be known of Databricks without an account of it."""

import json
import re
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from urllib.parse import parse_qsl, urlsplit

import requests
import yaml
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message
from mlflow import MlflowClient
from mlflow.protos import databricks_artifacts_pb2 as artifacts
from mlflow.protos import databricks_filesystem_service_pb2 as filesystem
from mlflow.protos import databricks_uc_registry_messages_pb2 as uc
from mlflow.protos.databricks_pb2 import validate_required
from mlflow.protos.databricks_uc_registry_service_pb2 import UcModelRegistryService
from mlflow.protos.service_pb2 import MlflowService
from mlflow.utils.rest_utils import extract_all_api_info_for_service
from runs import METRICS, PACKAGE, free_port, path_of, recorded, run, tracking_server

MODEL = f"main.default.{PACKAGE}"


def test_the_wheel_runs_as_the_job_runs_it(project, kedro, fork, bin_, tmp_path):
    """Outside of the project, with a folder for a volume and a store on this disk."""
    kedro("package")
    (wheel,) = (project / "dist").glob("*.whl")
    site, machine, volume = (tmp_path / name for name in ("site", "machine", "volume"))
    install = ("uv", "pip", "install", "--quiet", "--no-deps", "--target")
    run(*install, site, wheel, cwd=tmp_path)
    machine.mkdir()
    shutil.copytree(project / "data" / "01_raw", volume)
    shutil.copy(volume / "iris.csv", volume / "labelled_flowers.csv")
    file = project / "conf" / "databricks" / "globals.yml"
    file.write_text(re.sub("/Volumes/.*", str(volume), file.read_text()))
    conf = shutil.move(project / "conf", tmp_path / "conf")
    bundle = yaml.safe_load((project / "databricks.yml").read_text())
    jobs = bundle["resources"]["jobs"]
    tasks = [task for job in jobs.values() for task in job["tasks"]]
    shutil.rmtree(project)

    env = {"PYTHONPATH": str(site), "PATH": path_of(bin_)}
    env["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path}/store.db"
    for task in tasks:
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
        fork.run(bin_ / "python", "-c", call, *words, cwd=machine, **env)
    trained, scored, watched, monitored = runs = recorded(tmp_path, "store.db")
    assert {run.status for run in runs} == {"FINISHED"}
    assert trained.experiment == f"/Shared/{PACKAGE}"
    assert trained.tags["kedro.env"] == "databricks"
    assert trained.tags["registry.version"] == f"models:/{MODEL}/1"
    for one in (scored, watched, monitored):
        assert one.tags["model.uri"] == f"models:/{MODEL}@champion"
    assert watched.tags["drift.verdict"] == "too few rows (6)"
    assert monitored.metrics["monitor.rows"] == 150
    rows = (volume / "scored_flowers.csv").read_text().splitlines()
    assert len(rows) == len((volume / "new_flowers.csv").read_text().splitlines())
    assert {file.name for file in volume.iterdir()} == {
        ".locks",
        "iris.csv",
        "labelled_flowers.csv",
        "new_flowers.csv",
        "scored_flowers.csv",
    }
    client = MlflowClient(env["MLFLOW_TRACKING_URI"], env["MLFLOW_TRACKING_URI"])
    assert client.get_registered_model(MODEL).aliases == {"champion": 1}


TOKEN = "dapi-swordfish"
# Method and path, with the message that MLflow's own definitions name for them.
ENDPOINTS = [
    (re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", f"{method} {path}")), message)
    for service in (
        artifacts.DatabricksMlflowArtifactsService,
        filesystem.FilesystemService,
        MlflowService,
        UcModelRegistryService,
    )
    for message, calls in extract_all_api_info_for_service(service, "/api/2.0").items()
    for path, method in calls
]
# What the SDK would rather have, and does without: no definition says what it asks.
SPARED = re.compile(r"/\.well-known/|WorkspaceInternal")
FILES, PROXY = "/api/2.0/fs/directories", "/api/2.0/mlflow-artifacts/artifacts"
LOCATION = re.compile(rb"mlflow-artifacts:(/\d+)/(models/)?([\w-]+)/artifacts")


def understood(call: str, given: dict) -> Message:
    """Return the message of a request, which must be as it is defined."""
    for pattern, kind in ENDPOINTS:
        if found := pattern.fullmatch(call):
            message = ParseDict(given | found.groupdict(), kind())
            there = {field.name for field, _ in message.ListFields()}
            for field in message.DESCRIPTOR.fields:
                needed = field.GetOptions().Extensions[validate_required]
                assert field.name in there or not needed, f"without {field.name}"
            return message
    raise LookupError("no such endpoint")


class Workspace:
    """The REST API of a Databricks workspace, before an MLflow server.

    The server keeps runs, models and, in the place of Unity Catalog, their versions.
    Done here is what Databricks does in another way: tokens, the addresses of
    artifacts, and signed URLs for them.

    Args:
        server: The address of the MLflow server.
    """

    def __init__(self, server: str) -> None:
        self.server, self.address = server, ""
        self.understood: set[str] = set()
        self.refused: list[str] = []
        self.signed: set[str] = set()
        self.roots: dict[str, str] = {}  # of the artifacts of a run or a model

    def answer(self, method, target, headers, body) -> tuple[int, bytes]:
        """Return the status and the text of an answer."""
        url = urlsplit(target)
        if target in self.signed and "Authorization" not in headers:
            return self.ask(method, url.path.replace("/signed", PROXY, 1), data=body)
        if SPARED.search(target):
            return 403, b'{"error_code": "PERMISSION_DENIED", "message": "no"}'
        query, given = dict(parse_qsl(url.query)), json.loads(body or "{}")
        try:
            assert headers["Authorization"] == f"Bearer {TOKEN}", "without token"
            if url.path.startswith(f"{FILES}/Models/"):  # in no service
                return self.files(url.path.removeprefix(FILES))
            request = understood(f"{method} {url.path}", query | given)
        except (AssertionError, LookupError, ParseError) as error:
            self.refused.append(f"{method} {target} {body!r}: {error}")
            return 400, b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "no"}'
        self.understood.add(type(request).__name__)
        path = url.path.replace("/unity-catalog", "")
        match request:
            case artifacts.GetCredentialsForRead() | artifacts.GetCredentialsForWrite():
                signed = self.credentials(request.run_id, request.path)
                return said(credential_infos=signed)
            case (
                artifacts.GetCredentialsForLoggedModelDownload()
                | artifacts.GetCredentialsForLoggedModelUpload()
            ):
                signed = self.credentials(request.model_id, request.paths)
                return said(credentials=[{"credential_info": one} for one in signed])
            case (
                filesystem.CreateDownloadUrlRequest()
                | filesystem.CreateUploadUrlRequest()
            ):
                return said(url=self.sign(request.path))
            case uc.GenerateTemporaryModelVersionCredentialsRequest():
                return said(credentials={"storage_mode": "DEFAULT_STORAGE"})
            case uc.IsDatabricksSdkModelsArtifactRepositoryEnabledRequest():
                return said()
            case uc.FinalizeModelVersionRequest():
                method, path, query = "GET", path.replace("finalize", "get"), given
        words = {"params": query} if method == "GET" else {"json": given}
        status, text = self.ask(method, path, **words)
        return status, LOCATION.sub(self.rename, text)

    def ask(self, method: str, path: str, **words) -> tuple[int, bytes]:
        """Ask the MLflow server."""
        answer = requests.request(method, f"{self.server}{path}", timeout=60, **words)
        return answer.status_code, answer.content

    def rename(self, found: re.Match) -> bytes:
        """Return the address that Databricks would give to artifacts; keep theirs."""
        experiment, model, owner = found.groups()
        self.roots[owner.decode()] = found[0].decode().partition(":")[2]
        kind = b"logged_models/" if model else b""
        folder = b"dbfs:/databricks/mlflow-tracking"
        return b"%b%b/%b%b/artifacts" % (folder, experiment, kind, owner)

    def sign(self, path: str) -> str:
        """Return a URL that gives access to a file of the server's."""
        signed = f"/signed{path}?signature={secrets.token_hex()}"
        self.signed.add(signed)
        return f"{self.address}{signed}"

    def credentials(self, owner: str, paths) -> list[dict]:
        """Return the credentials for files of a run or a model."""
        signed = [self.sign(f"{self.roots[owner]}/{path}") for path in paths]
        return [{"signed_uri": url, "type": "AWS_PRESIGNED_URL"} for url in signed]

    def files(self, folder: str) -> tuple[int, bytes]:
        """List a folder of a registered version."""
        _, text = self.ask("GET", PROXY, params={"path": folder.strip("/")})
        found = [
            {"path": f"{folder}/{file['path']}", "is_directory": file["is_dir"]}
            for file in json.loads(text)["files"]
        ]
        return said(contents=found)


def said(**content) -> tuple[int, bytes]:
    """Return an answer of the workspace's own."""
    return 200, json.dumps(content).encode()


@contextmanager
def serve(workspace: Workspace) -> Iterator[dict[str, str]]:
    """Serve a workspace on this machine; yield the variables that lead there."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            asked = self.command, self.path, self.headers, body
            status, text = workspace.answer(*asked)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("X-Databricks-Org-Id", "1")
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = answer

        def log_message(self, *_) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    workspace.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"DATABRICKS_HOST": workspace.address, "DATABRICKS_TOKEN": TOKEN}
    server.shutdown()
    server.server_close()


RIVALS = f"""
from {PACKAGE}.tracking import promotion
decision = promotion.Decision("accuracy", 0.5)
options = promotion.PromoteOptions("{MODEL}", "accuracy")
promotion.set_champion("1", decision, None, set(), options)
print(decision.decision, decision.against)
"""


def test_a_workspace_understands_all_that_the_project_asks(
    project, bin_, kedro, fork, tmp_path
):
    """Two trainings, a scoring, the list of them, and the best of several at once."""
    file = project / "conf" / "databricks" / "globals.yml"
    file.write_text(re.sub("/Volumes/.*", "data/01_raw", file.read_text()))
    with tracking_server(bin_, tmp_path, free_port()) as (server, _):
        workspace = Workspace(server)
        with serve(workspace) as env:
            for words in ((), (), ("--pipelines=score",)):
                kedro("run", "--env=databricks", *words, **env)
            listed = kedro("runs", "--env=databricks", **env).stdout
            env |= {"MLFLOW_TRACKING_URI": "databricks", "PYTHONPATH": "src"}
            rival = fork.run(bin_ / "python", "-c", RIVALS, cwd=project, **env).stdout
    assert workspace.refused == []
    assert workspace.understood >= {
        *("CreateExperiment", "CreateRun", "LogBatch", "LogInputs", "LogOutputs"),
        *("UpdateRun", "SearchRuns", "GetCredentialsForWrite", "CreateLoggedModel"),
        *("GetCredentialsForLoggedModelUpload", "CreateModelVersionRequest"),
        *("CreateUploadUrlRequest", "CreateDownloadUrlRequest"),
    }
    *trained, scored = recorded(tmp_path, "server.db")
    client = MlflowClient(f"sqlite:///{tmp_path / 'server.db'}")
    store = tmp_path / "artifacts"
    for number, one in enumerate(trained, 1):
        assert one.status == "FINISHED" and one.experiment == f"/Shared/{PACKAGE}"
        assert one.metrics.keys() >= METRICS and one.params["model_options.C"] == "1.0"
        assert one.tags["registry.version"] == f"models:/{MODEL}/{number}"
        assert one.id[:8] in listed
        assert (store / f"1/{one.id}/artifacts/figures/quality.png").exists()
        _, model = client.get_model_version(MODEL, str(number)).source.split("/")
        logged = (store / f"1/models/{model}/artifacts/model.skops").read_bytes()
        registered = store.joinpath("Models", *MODEL.split("."), str(number))
        assert (registered / "model.skops").read_bytes() == logged
    assert client.get_registered_model(MODEL).aliases == {"champion": 2}
    assert scored.status == "FINISHED"
    assert scored.tags["model.uri"] == f"models:/{MODEL}@champion"
    best = trained[1].metrics["accuracy"]
    assert rival.endswith(f"challenger {best:.4g} of version 2\n")
