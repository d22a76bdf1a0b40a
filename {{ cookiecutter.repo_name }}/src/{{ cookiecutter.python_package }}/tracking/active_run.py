"""The MLflow run of a pipeline run: open or join it, and end it truthfully."""

import atexit
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import mlflow

from . import artifacts, catalog_files, client, config, datasets, failures, recovery
from .data_locks import DataLocks
from .environment import unset_env
from .names import ENTRY_POINT_TAG

logger = logging.getLogger(__name__)


@dataclass
class ActiveRun:
    """The MLflow run of a pipeline run that is under way."""

    kedro_id: str  # Kedro's id of the pipeline run
    mlflow_id: str
    # "us"; "mlflow run"; "caller", in this process; or "other", by MLFLOW_RUN_ID
    opened_by: str
    pipeline: Any  # the nodes that are to run
    catalog: Any
    started: datetime  # a time before it was opened
    locks: DataLocks
    pending: recovery.PendingRun | None = None  # if it is ours to end
    in_workers: bool = False  # nodes run in other processes
    inputs: catalog_files.DataFiles = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)  # inputs that are not logged yet
    chunked: set[str] = field(default_factory=set)  # inputs that nodes read in chunks
    versioned: list[Path] = field(default_factory=list)  # files that it has saved
    pid: int = field(default_factory=os.getpid)
    thread: int = field(default_factory=threading.get_ident)

    def activate(self) -> None:
        """Make the run active where a node runs: maybe in another thread or process."""
        if self.pid != os.getpid():
            # A nested run that the node starts must not resume the run passed on.
            os.environ.pop("MLFLOW_RUN_ID", None)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if not mlflow.active_run():
            mlflow.start_run(run_id=self.mlflow_id)

    def log_input(self, name: str, data: Any) -> None:
        """Log an input when a node first reads it."""
        if name not in self.unread:
            return
        self.unread.remove(name)
        if isinstance(data, Iterable) and not isinstance(data, Sized):
            self.chunked.add(name)  # the node reads it after the hook has seen it
        datasets.log_input_or_warn(self.mlflow_id, name, self.inputs[name], data)

    def release(self, status: str) -> None:
        """Deactivate the run in a worker thread or process, without ending it."""
        if (os.getpid(), threading.get_ident()) != (self.pid, self.thread):
            end_active(self.mlflow_id, nested_status=status, own_status="RUNNING")

    def finish(
        self,
        status: str,
        error: BaseException | None = None,
        policy: dict[str, str] = client.FINISH,
    ) -> None:
        """Log what is left, end the run, and unlock its files, in about a minute."""
        if self.pending:
            self.pending.set_final_status(status)
        calls = client.BestEffortCalls(self.mlflow_id, policy)
        try:
            unset_env("MLFLOW_RUN_ID")
            if error:
                calls.attempt("its failure", self._log_failure, error)
            if status != "KILLED":
                self._log_data(calls, complete=status == "FINISHED")
            calls.report_failures()
        except BaseException:  # Ctrl-C
            calls.until = 0.0
            logger.error("MLflow has not got all of run %s.", self.mlflow_id)
            raise
        finally:
            self._end_and_unlock(calls, status)

    def _log_failure(self, run_id: str, error: BaseException) -> None:
        described = failures.describe_failure(error, self.pipeline, self.catalog)
        if self.pending:
            self.pending.set_failure(described)
        failures.log_failure(run_id, described)

    def _log_data(self, calls: client.BestEffortCalls, *, complete: bool) -> None:
        """Log inputs that no node of this process has read, and the artifacts."""
        for name, file in self.inputs.items():
            if file and name in self.unread:
                calls.attempt(name, datasets.log_input, name, file, None)
            elif name in self.chunked:  # they were read until now
                calls.attempt(name, datasets.check_unchanged, name, file)
        saved = catalog_files.saved_files(
            self.kedro_id, self.locks.written(), self.pipeline, self.catalog
        )
        self.versioned = [file.path for file in saved.values() if file.versioned]
        for artifact in artifacts.requested(
            self.inputs,
            saved,
            self.pipeline,
            self.catalog,
            kedro_id=self.kedro_id,
            started=self.started,
            complete=complete,
        ):
            what = f"the artifact of {artifact.name}"
            calls.attempt(what, artifacts.log, artifact)

    def _end_and_unlock(self, calls: client.BestEffortCalls, status: str) -> None:
        ended = calls.attempt("its end", self._end, status, last=True)
        if self.pending:
            # A search that failed in a worker may have left child runs open.
            if self.in_workers and status != "FINISHED":
                self.pending.set_unsure(True)
            if ended and self.pending.unsure:
                end_orphans = recovery.end_orphan_runs
                calls.attempt("the end of its duplicates", end_orphans, last=True)
            done = ended and self.opened_by == "us" and not self.pending.unsure
            self.pending.close(done=done)
        self.locks.release(self.versioned)
        if not ended:
            logger.error(
                "MLflow could not be told that run %s has ended %s (%s). %s",
                *(self.mlflow_id, status, calls.missing[-1]),
                "The next `kedro run` in this folder tells it." if self.pending else "",
            )

    def _end(self, run_id: str, status: str) -> None:
        """End our run; only deactivate a run that somebody else has opened."""
        own_status = {
            "us": status,
            # It ends the run by our exit status; but may be interrupted with us.
            "mlflow run": status if status == "KILLED" else "RUNNING",
            "other": "RUNNING",
            "caller": None,
        }[self.opened_by]
        was_active = end_active(run_id, nested_status=status, own_status=own_status)
        if not was_active and own_status not in (None, "RUNNING"):
            # A node has ended it, or this is another thread.
            mlflow.MlflowClient().set_terminated(run_id, own_status)


def open_run(
    settings: dict[str, Any], project: Path, tags: dict[str, str]
) -> tuple[Any, str, recovery.PendingRun | None]:
    """Join the caller's run, or open one with these tags, where mlflow.yml says.

    Returns:
        The MLflow run, who has opened it, and its pending file if it is ours to end.
    """
    unset_env("MLFLOW_RUN_ID")  # left by an interrupted run
    uri, joined = os.environ["MLFLOW_TRACKING_URI"], os.environ.get("MLFLOW_RUN_ID")
    recovery.finish_interrupted_runs(project, uri, joined)
    if active := mlflow.active_run():  # it lacks what was logged since
        return mlflow.get_run(active.info.run_id), "caller", None
    if joined:
        # The launcher's run decides the experiment, whatever its name says.
        os.environ.pop("MLFLOW_EXPERIMENT_NAME", None)
        run = mlflow.start_run()
        if ENTRY_POINT_TAG not in run.data.tags:
            return run, "other", None
        experiment, run_id = run.info.experiment_id, run.info.run_id
        pending = recovery.PendingRun(project, uri, experiment, run_id)
        return run, "mlflow run", pending
    experiment = config.experiment_id(settings, project)
    pending = recovery.PendingRun(project, uri, experiment)
    try:
        return recovery.create_run(pending, experiment, tags), "us", pending
    except BaseException:
        pending.close()
        raise


def end_active(run_id: str, nested_status: str, own_status: str | None) -> bool:
    """End this thread's active runs down to a run; return whether it was active.

    Nested runs that a node has left open get ``nested_status``. With None as
    ``own_status``, the run itself stays active.
    """
    if not (active := mlflow.active_run()):
        return False
    if active.info.run_id == run_id:
        if own_status:
            mlflow.end_run(own_status)
        return True
    try:
        mlflow.end_run(nested_status)
    finally:  # MLflow takes it off its stack even if that fails
        found = end_active(run_id, nested_status, own_status)
    return found


def exit_on_sigterm(signum: int, _frame) -> None:
    """Exit as ``sys.exit`` does, so that open runs are ended; stop the workers."""
    for child in multiprocessing.active_children():
        child.terminate()
    raise SystemExit(128 + signum)


def install_exit_handlers(end_open_runs: Callable[[], None]) -> None:
    """End open runs as KILLED when the process is interrupted or terminated."""
    # Registered after MLflow's own handler, which would say FINISHED: runs first.
    atexit.unregister(end_open_runs)
    atexit.register(end_open_runs)
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    ):
        signal.signal(signal.SIGTERM, exit_on_sigterm)
