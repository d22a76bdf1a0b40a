"""Whole runs against a server that fails once, and whether what they say is true."""

import asyncio
import base64
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Coroutine
from contextlib import closing
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

from harness import Forked, ForkServer
from runs import path_of, start

USER, PASSWORD = "aurelia", "zanzibar/quokka"
LOGIN = f"{USER}:{quote(PASSWORD, safe='')}@"
STALL, GONE = 6, 15  # seconds
LATE = 13, 21.5  # seconds, of the first creation and the others: nobody waits then
FAULTS = {
    "503": "answered 503, and not done",
    "401": "answered 401, and not done",
    "413": "an upload answered 413, and not done",
    "dropped": "the connection closed without an answer, and not done",
    "lost": "done, and the connection closed without an answer",
    "stall": f"done, and answered after {STALL} s",
    "late": f"a run's creation, done after {LATE[0]} s, when nobody waits for it",
    "afterwards": "a run's creation, done when another run of it has ended",
    "gone": f"this and all other connections refused for {GONE} s",
}
FOR_GOOD = {
    "dead": "this and all later connections refused",
    "hung": "this and all later requests never answered",
}


class Proxy:
    """Stands before a server on this machine, writes requests down, and breaks one.

    A request is known by its method, its path without ids, and how many like it came
    before: their order differs where files of a folder are sent in the disk's order.
    It asks for a password, as a team's server does.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._repaired, self._ended = asyncio.Event(), asyncio.Event()
        self.port = 0
        self.begin()
        self._refusing: asyncio.Task | None = None
        self._call(self._listen())

    @property
    def uri(self) -> str:
        """The address with user and password, as one sets it in a shell."""
        return f"http://{LOGIN}127.0.0.1:{self.port}"

    def begin(self, request: str = "", fault: str = "") -> None:
        """Forget what came, and break this request in this way when it comes."""
        self.requests: list[str] = []
        self.broken = False
        self._ended.clear()
        self._break, self._fault = request, fault
        self._seen: Counter[str] = Counter()

    def repair(self) -> None:
        """Have the server answer again, at once, whatever it is that is broken."""
        self._call(self._repair())

    def _call(self, coroutine: Coroutine) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _listen(self) -> None:
        options = {"host": "127.0.0.1", "port": self.port, "limit": 1 << 24}
        self._listener = await asyncio.start_server(self._serve, **options)
        self.port = self._listener.sockets[0].getsockname()[1]
        self._repaired.set()

    async def _refuse(self, seconds: float | None) -> None:
        """Refuse every connection for so long, or until it is repaired."""
        self._listener.close()
        self._repaired.clear()
        repaired = self._loop.create_task(self._repaired.wait())
        await asyncio.wait([repaired], timeout=seconds)
        await self._listen()

    async def _repair(self) -> None:
        self._repaired.set()
        self._ended.set()
        if self._refusing:
            await self._refusing

    async def _serve(self, reader, writer) -> None:
        try:
            head, body = await read_request(reader)
            fault = self._fault_of(head)
            if fault == "hung":
                self._repaired.clear()
            await self._repaired.wait()
            if fault in ("gone", "dead"):
                refuse = self._refuse(GONE if fault == "gone" else None)
                self._refusing = self._loop.create_task(refuse)
            if fault in ("gone", "dead", "dropped", "hung"):
                return
            if fault == "late":
                await asyncio.sleep(LATE[not self._break.endswith("#1")])
            if fault == "afterwards":
                await self._ended.wait()
            if fault.isdigit() or not authorised(head):
                writer.write(answer(HTTPStatus(int(fault or 401))))
            else:
                reply = await self._forward(head, body)
                if fault == "stall":
                    await asyncio.sleep(STALL)
                if fault != "lost":
                    writer.write(reply)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has left
        finally:
            writer.close()

    def _fault_of(self, head: bytes) -> str:
        """Write a request down; return how it is to be broken, if it is the one."""
        name = template(*head.split(b" ", 2)[:2])
        self._seen[name] += 1
        self.requests.append(f"{name} #{self._seen[name]}")
        if self.broken or self.requests[-1] != self._break:
            return ""
        self.broken = True
        return self._fault

    async def _forward(self, head: bytes, body: bytes) -> bytes:
        head = re.sub(rb"(?i)\r\nConnection: [^\r]*", b"", head)
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        writer.write(head[:-2] + b"Connection: close\r\n\r\n" + body)
        reply = await reader.read()
        writer.close()
        return reply


async def read_request(reader) -> tuple[bytes, bytes]:
    """Read one request: its head with the empty line, and its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    if re.search(rb"(?i)\r\nTransfer-Encoding: *chunked", head):
        return head, await reader.readuntil(b"0\r\n\r\n")
    length = re.search(rb"(?i)\r\nContent-Length: *(\d+)", head)
    return head, await reader.readexactly(int(length[1]) if length else 0)


def authorised(head: bytes) -> bool:
    """Tell whether a request brings user and password."""
    token = base64.b64encode(f"{USER}:{PASSWORD}".encode())
    return b"Basic " + token in head


def answer(status: HTTPStatus) -> bytes:
    """Return the answer of a proxy that refuses."""
    text = f"<html>{status} {status.phrase}</html>".encode()
    head = f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: text/html\r\n"
    head += f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n"
    return head.encode() + text


def template(method: bytes, path: bytes) -> str:
    """Return method and path without the ids and the query of one run."""
    text = path.decode().partition("?")[0]
    text = re.sub(r"^/api/\d\.\d/(mlflow/)?", "", text)
    text = re.sub(r"(?<=/)(m-)?[0-9a-f]{32}(?=/|$)|(?<=/)\d+(?=/|$)", "*", text)
    return f"{method.decode()} {text}"


RAISING, LAUNCHED = "a node raises", "mlflow run"
# Two candidates, fitted in the run's own process.
GRID = "tune_options.param_grid.logisticregression__C=[1.0],parallel.n_jobs=1"
SCENARIOS = {
    "kedro run": ("kedro", "run"),
    "score": ("kedro", "run", "--pipelines=score"),
    "tune": ("kedro", "run", "--pipelines=tune", f"--params={GRID}"),
    RAISING: ("kedro", "run", "--params=model_options.C=-1"),
    LAUNCHED: ("mlflow", "run", ".", "--env-manager=local"),
}
# What `mlflow run` itself sends before the project begins.
LAUNCHERS = [f"POST runs/{name} #1" for name in ("create", "log-batch", "set-tag")]
LAUNCHERS += ["GET runs/get #1"]
READY = "/api/2.0/mlflow/experiments/get?experiment_id=0"
NEXT = ("kedro", "run", "--pipelines=data_engineering")
TRAINED = ["metrics.json", "promotion.json", "quality.png", "confusion_matrix.png"]
OUTPUTS = {name: [f"08_reporting/{file}" for file in TRAINED] for name in SCENARIOS}
OUTPUTS["score"] = ["07_model_output/scored_flowers.csv"]
STARTED = "=== Running command"  # says `mlflow run` when Kedro begins
COMPLETED = "Pipeline execution completed successfully"
OUTCOMES = {
    "recorded": "it completed, is FINISHED, and nothing is missing",
    "partly": "it completed, is FINISHED, and the log says that something is missing",
    "later": "it completed, and is FINISHED since the next run in its folder",
    "failed": "it failed with the request, and is FAILED",
    "refused": "it ended before it computed anything, and there is no run",
    "inconsistent": "none of these, or something else does not match",
}
LIMIT = 120  # seconds that a run may take, whatever breaks

# The candidates of a search that are shown.
CANDIDATES = """FROM tags JOIN runs USING (run_uuid)
WHERE key = 'mlflow.parentRunId' AND value = ? AND lifecycle_stage = 'active'"""
# What the database holds of one run.
RECORD = {
    "param": "SELECT key FROM params WHERE run_uuid = ?",
    "tag": "SELECT key FROM tags WHERE run_uuid = ?",
    "metric": "SELECT key FROM latest_metrics WHERE run_uuid = ?",
    "input": "SELECT source_type FROM inputs WHERE destination_id = ?",
    "model": "SELECT name FROM logged_models WHERE source_run_id = ?",
    "version of": "SELECT name FROM model_versions WHERE run_id = ?",
    "candidate": f"SELECT status {CANDIDATES}",
}


class Store:
    """A server's database and artifacts, read where they lie and set back at will."""

    def __init__(self, folder: Path) -> None:
        self._database, self._artifacts = folder / "server.db", folder / "artifacts"
        self._first = sqlite3.connect(":memory:", check_same_thread=False)
        with closing(sqlite3.connect(self._database)) as db:
            db.backup(self._first)
        self._old: set[str] = set()
        self._old = self.runs().keys()
        self._kept = self._folders()

    def reset(self) -> None:
        """Set everything back, under the eyes of the server that uses it."""
        with closing(sqlite3.connect(self._database)) as db:
            self._first.backup(db)
        for folder in self._folders() - self._kept:
            shutil.rmtree(folder)

    def runs(self) -> dict[str, tuple[str, float | None]]:
        """Return status and end time (s) of the shown runs since then, by id.

        Candidates of a search are not among them: they belong to their run's record.
        """
        children = "SELECT run_uuid FROM tags WHERE key = 'mlflow.parentRunId'"
        shown = f"lifecycle_stage = 'active' AND run_uuid NOT IN ({children})"
        found = self._ask(
            f"SELECT run_uuid, status, end_time / 1e3 FROM runs WHERE {shown}"
        )
        return {id_: (s, ended) for id_, s, ended in found if id_ not in self._old}

    def record(self, run_id: str) -> Counter[str]:
        """Return the names of all that is recorded of a run and its candidates."""
        tables = RECORD.items()
        found = [f"{t} {row[0]}" for t, q in tables for row in self._ask(q, run_id)]
        models = "SELECT model_id FROM logged_models WHERE source_run_id = ?"
        for id_ in (run_id, *(row[0] for row in self._ask(models, run_id))):
            for base in self._artifacts.rglob(f"{id_}/artifacts"):
                files = (file for file in base.rglob("*") if file.is_file())
                found += [f"artifact {file.relative_to(base)}" for file in files]
        for (child,) in self._ask(f"SELECT run_uuid {CANDIDATES}", run_id):
            found += self.record(child).elements()
        return Counter(found)

    def text(self) -> str:
        """Return all that the store holds now and did not hold at first, as text."""
        with closing(sqlite3.connect(self._database)) as db:
            lines = set(db.iterdump()) - set(self._first.iterdump())
        new = self._folders() - self._kept
        files = (f for folder in new for f in folder.rglob("*") if f.is_file())
        texts = (file.read_text("utf-8", "ignore") for file in files)
        return "\n".join([*lines, *texts])

    def _ask(self, query: str, *values: str) -> list[tuple]:
        with closing(sqlite3.connect(self._database, timeout=30)) as db:
            return db.execute(query, values).fetchall()

    def _folders(self) -> set[Path]:
        """Return the folders of all runs and models."""
        found = self._artifacts.rglob("artifacts")
        return {folder.parent for folder in found if folder != self._artifacts}


@dataclass
class Case:
    """One whole run, in which one request was broken in one way, or none."""

    scenario: str
    request: str = ""
    fault: str = ""
    exit: int = 0
    seconds: float = 0.0
    completed: bool = False
    status: str = ""  # in the store once the server is back
    afterwards: str = ""  # and when the next run in that folder has ended
    missing: list[str] = field(default_factory=list)  # that an undisturbed run records
    said: list[str] = field(default_factory=list)  # what only a disturbed run says
    mismatches: list[str] = field(
        default_factory=list
    )  # a kind, a colon, what was wrong
    foreign: list[str] = field(default_factory=list)  # likewise, by `mlflow run` itself

    @property
    def outcome(self) -> str:
        """What came of it, in a word."""
        if self.mismatches:
            return "inconsistent"
        if not self.completed:
            return "failed" if self.afterwards else "refused"
        if self.missing:
            return "partly"
        return "recorded" if self.status == self.afterwards else "later"


@dataclass
class Undisturbed:
    """What a whole run does when nothing is broken."""

    requests: list[str]
    record: Counter[str]
    warnings: set[str]
    end: tuple[int, list[str]]  # exit code and statuses


class Bench:
    """A trained project, its server, and the proxy between them: a case at a time.

    Args:
        folder: Where the server keeps ``server.db`` and ``artifacts``.
        project: A generated project, which is copied.
        bin_: The environment in which it runs.
        port: The server's.
        fork: What runs its commands by forking; each is a new process without it.
    """

    def __init__(
        self,
        folder: Path,
        project: Path,
        bin_: Path,
        port: int,
        fork: ForkServer | None = None,
    ) -> None:
        self._bin, self.folder, self.port = bin_, folder, port
        self._fork = fork
        self.proxy = Proxy(port)
        self._project, self._trained = folder / project.name, folder / "trained"
        shutil.copytree(project, self._project)
        # A server's first answer may take longer than a run waits for it.
        urllib.request.urlopen(f"http://127.0.0.1:{port}{READY}", timeout=300).close()
        code, log, _ = self._start("kedro", "run")
        assert code == 0, log
        self._project.rename(self._trained)
        self._store = Store(folder)
        self._undisturbed: dict[str, Undisturbed] = {}

    def faults(self, scenario: str) -> dict[str, list[str]]:
        """Return the requests of a run in their order, and how each can fail once."""
        if scenario not in self._undisturbed:
            self.run(scenario)
        sent = self._undisturbed[scenario].requests
        only = {"413": "PUT", "late": "runs/create", "afterwards": "runs/create"}
        return {r: [f for f in FAULTS if only.get(f, "") in r] for r in sent}

    def run(
        self, scenario: str, request: str = "", fault: str = "", **changes: str
    ) -> tuple[Case, str]:
        """Break one request in one way, if any; return what came of it, and the log.

        ``INTERRUPT="1"`` among the changes of the environment has Ctrl-C pressed while
        it is broken, and the server repaired a second later.
        """
        if request and scenario not in self._undisturbed:
            self.run(scenario)
        self._store.reset()
        shutil.rmtree(self._project, ignore_errors=True)
        shutil.copytree(self._trained, self._project)
        self.proxy.begin(request, fault)
        began = time.time()
        code, log, seconds = self._start(*SCENARIOS[scenario], **changes)
        ended = time.time()
        requests, broken = self.proxy.requests, self.proxy.broken
        self.proxy.begin()
        self.proxy.repair()
        before = self._store.runs()
        record = sum(map(self._store.record, before), Counter())
        statuses = [status for status, _ in before.values()]
        this = Undisturbed(requests, record, warnings(log), (code, statuses))
        if not request:
            self._undisturbed[scenario] = this
        usual = self._undisturbed[scenario]
        mine, next_code, next_log, others = before, 0, "", ["FINISHED"]
        traces = self._owed() or replace(this, requests=usual.requests) != usual
        if traces or not request:  # otherwise the next run has nothing to mend
            next_code, next_log, _ = self._start(*NEXT)
            after = self._store.runs()
            # A duplicate that came late is in MLflow's trash by now.
            mine = {id_: after.pop(id_) for id_ in before if id_ in after}
            others = [status for status, _ in after.values()]

        case = Case(scenario, request, fault, code, seconds, COMPLETED in log)
        case.status = " ".join(statuses)
        case.afterwards = " ".join(status for status, _ in mine.values())
        case.said = sorted(this.warnings - usual.warnings)
        if case.completed or scenario == RAISING:
            case.missing = sorted((usual.record - record).elements())
        case.mismatches = found = find_mismatches(case, log)
        outputs = [self._project / "data" / name for name in OUTPUTS[scenario]]
        fresh = [file.exists() and file.stat().st_mtime >= began for file in outputs]
        if case.completed != all(fresh):
            found.append("data: the log and the files disagree")
        for status, end in mine.values():
            if end and status != "KILLED" and not began - 1 <= end <= ended + 1:
                found.append(f"time: {status} {end - ended:.1f} s after the end")
        if any(self._store.record(id_)["candidate RUNNING"] for id_ in mine):
            found.append("candidate: RUNNING for ever")
        if next_code or others != ["FINISHED"]:
            found.append(f"next: exit {next_code}, {others}: {next_log[-600:]}")
        if owed := self._owed():
            found.append(f"journal: still owes {', '.join(owed)}")
        if request and not broken:
            found.append("bench: the request did not come")
        ours, _, launchers = log.partition("=== Run (ID")
        found += secrets("log", ours + next_log)
        found += secrets("store", self._store.text())
        case.foreign = secrets("log", launchers)
        if scenario == LAUNCHED:
            kinds = ("exit", "silence") if request in LAUNCHERS else ()
            if STARTED not in log or request == LAUNCHERS[0]:
                kinds += ("status",)
            case.foreign += [one for one in found if one.startswith(kinds)]
            case.mismatches = [one for one in found if one not in case.foreign]
        return case, log

    def _owed(self) -> list[str]:
        return sorted(file.name for file in self._project.glob(".runs/*"))

    def _start(self, *words: str, **changes: str) -> tuple[int, str, float]:
        """Run a command in the project; return its exit code, output and seconds."""
        env = {"PATH": path_of(self._bin), "MLFLOW_TRACKING_URI": self.proxy.uri}
        env |= {"COLUMNS": "300", **changes}
        command, log = [self._bin / words[0], *words[1:]], self.folder / "log"
        log.write_text("")
        began = time.monotonic()
        process: subprocess.Popen | Forked
        if self._fork and "INTERRUPT" not in changes:
            process = self._fork.start(*command, cwd=self._project, output=log, **env)
        else:
            with log.open("w") as output:
                process = start(*command, cwd=self._project, output=output, **env)
        if "INTERRUPT" in changes:
            threading.Thread(target=self._interrupt, args=[process]).start()
        try:
            code = process.wait(timeout=3 * LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            code = process.wait(timeout=LIMIT)
        return code, log.read_text(), round(time.monotonic() - began, 1)

    def _interrupt(self, process: subprocess.Popen) -> None:
        while not self.proxy.broken and process.poll() is None:
            time.sleep(0.1)
        time.sleep(1)
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(1)
        self.proxy.repair()


def find_mismatches(case: Case, log: str) -> list[str]:
    """Compare exit code, log and the store's statuses with each other."""
    found = []
    # `mlflow run` may fail on requests of its own when Kedro has succeeded.
    kedro = 0 if "succeeded ===" in log else case.exit
    truth = "completed" if case.completed else "failed"
    right = ["FINISHED"] if case.completed else ["FAILED"]
    if "Running node" not in log:  # and could not have
        right = ["", "FAILED", "KILLED"]
    if (kedro == 0) != case.completed:
        found.append(f"exit: {case.exit} of a pipeline that {truth}")
    if case.afterwards not in right:
        found.append(f"status: {truth}, recorded as {case.afterwards or 'nothing'}")
    if case.missing and not case.said:
        found.append(f"silence: without a word lacks {', '.join(case.missing)}")
    if case.seconds > LIMIT:
        found.append(f"slow: {case.seconds} s")
    return found


def warnings(log: str) -> set[str]:
    """Return the warnings and errors of a log, without times, ids and retries."""
    lines = re.findall(r"(?m)^.*(?:\b(?:WARNING|ERROR)\b|^Error:).*$", log)
    varying = r"[0-9a-f]{32}|[\d:/.]*\d|\s+"
    plain = (re.sub(varying, " ", line) for line in lines if "Retrying (" not in line)
    return {line.strip() for line in plain}


def secrets(place: str, text: str) -> list[str]:
    """Name the lines with the password; the user's name alone is MLflow's author."""
    marks = (f"{USER}:", *PASSWORD.split("/"))
    told = [line for line in text.splitlines() if any(mark in line for mark in marks)]
    return [f"secret: in the {place}: {line.strip()[:200]}" for line in told]
