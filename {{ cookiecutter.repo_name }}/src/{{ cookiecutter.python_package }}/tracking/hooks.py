"""The life of the MLflow run: one pipeline run is one MLflow run, truthfully ended."""

from __future__ import annotations

import atexit
import copy
import difflib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Sized
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from click import ClickException
from kedro.framework.hooks import hook_impl
from kedro.framework.project import settings
from kedro.runner import AbstractRunner
from omegaconf import OmegaConf

from . import artifacts, data_locks, journal, origin, provenance, store

logger = logging.getLogger(__name__)


@dataclass
class Recording:
    """The MLflow run of a pipeline run that is under way."""

    mlflow_id: str
    # "us"; "mlflow run"; "caller", in this process; or "other", by MLFLOW_RUN_ID
    opened_by: str
    pipeline: Any
    catalog: Any
    started: float  # in seconds since 1970, before it was opened
    locks: data_locks.DataLocks
    made_again: bool = False  # because the answer was late: there may be a twin
    entry: journal.Entry | None = None
    inputs: dict[str, provenance.File | None] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)
    lazy: set[str] = field(default_factory=set)  # inputs that nodes read in chunks
    pid: int = field(default_factory=os.getpid)
    thread: int = field(default_factory=threading.get_ident)


class MLflowRunHooks:
    """Opens or joins the MLflow run, records what made it, and ends it.

    One instance serves all sessions of a process, also several at a time: what is
    under way is kept by Kedro's run id.
    """

    def __init__(self) -> None:
        self._recordings: dict[str, Recording] = {}

    @hook_impl(tryfirst=True)
    def after_context_created(self, context) -> None:
        """Set where runs go, for notebooks too; end a run that Ctrl-C left open."""
        # skops looks for these functions in one loaded module after another.
        import scipy.special  # noqa: F401

        self._loader = context.config_loader
        self._loader.runtime_params = nested(self._loader.runtime_params or {})
        warn_of_kedro_mlflow()
        self._config = store.read_config(self._loader)
        self._project = Path(context.project_path)
        self._env = context.env or self._loader.default_run_env
        store.configure(self._config, self._project)
        if "mlflow" in sys.modules:
            self._end_interrupted_run()

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params, pipeline, catalog) -> None:
        """Wait for the files, and open the run or join the caller's."""
        given = nested(run_params["runtime_params"] or {})
        self._refuse_misspelt_parameters(given)
        check_options(pipeline, catalog)
        locks = data_locks.DataLocks(
            writes=provenance.shared_paths(pipeline.all_outputs(), catalog),
            reads=provenance.shared_paths(provenance.free_inputs(pipeline), catalog),
            joined=joined_runs(),
        )
        locks.acquire(data_locks.read_timeout(self._config))
        try:
            self._start(run_params, pipeline, catalog, given, locks)
        except BaseException:
            locks.release()
            raise

    def _start(self, run_params, pipeline, catalog, given, locks) -> None:
        """Open or join the MLflow run, and record what is known of it already."""
        run_id, began = run_params["run_id"], time.time()
        todo = provenance.nodes_to_run(pipeline, catalog, run_params)
        tags = provenance.identity(run_params, todo, self._project, self._env)
        if skipped := {n.name for n in pipeline.nodes} - {n.name for n in todo.nodes}:
            tags["kedro.skipped_nodes"] = ",".join(sorted(skipped))
            names = [node.name for node in todo.nodes]
            run_params = {**run_params, "node_names": names}
        try:
            with store.first_contact(self._project):
                run, opened_by = self._open(tags)
                of = opened_by, todo, catalog, began, locks
                recording = Recording(run.info.run_id, *of)
                recording.made_again = "creation.again" in run.data.tags
                self._recordings[run_id] = recording
                self._prepare_for_the_end()
                if opened_by in ("us", "mlflow run"):
                    where = self._project, run.info.run_id
                    uri = os.environ["MLFLOW_TRACKING_URI"]
                    recording.entry = journal.Entry(*where, uri)
            locks.name_run(run.info.run_id)
            store.show(run)
            provenance.pin_versions(todo, catalog, run_id)
            artifacts.warn_of_unknown_settings(todo, catalog)
            files = provenance.input_files(todo, catalog)
            recording.inputs, recording.unread = files, set(files)
            taken = provenance.taken(todo, catalog, given)
            options = origin.options(run_params, self._env, files)
            made_by = provenance.lineage(files)
            known, reproduction = origin.repeated_by(
                options, files, made_by, self._project, tags
            )
            with store.first_contact(self._project):
                provenance.record_origin(run, tags | known, taken, reproduction)
        except BaseException as error:
            if run_id in self._recordings:
                status = "FAILED" if isinstance(error, Exception) else "KILLED"
                self._finish(run_id, status, error, store.HURRIED)
            raise
        if tags["kedro.runner"] == "ParallelRunner":
            # The way into worker processes, also into those that have no hooks.
            store.export("MLFLOW_RUN_ID", recording.mlflow_id)

    @hook_impl(tryfirst=True)
    def before_node_run(self, node, inputs, run_id) -> None:
        """Make the run active where the node runs: maybe another thread or process."""
        import mlflow

        recording = self._recordings[run_id]
        if recording.pid != os.getpid():
            # A nested run that the node starts must not resume the run passed on.
            os.environ.pop("MLFLOW_RUN_ID", None)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if not mlflow.active_run():
            mlflow.start_run(run_id=recording.mlflow_id)
        provenance.namespace.set(node.namespace)
        for name in inputs.keys() & recording.unread:
            recording.unread.remove(name)
            read = inputs[name]
            if isinstance(read, Iterable) and not isinstance(read, Sized):
                recording.lazy.add(name)
            args = (name, recording.inputs[name], inputs[name])
            provenance.record_input(recording.mlflow_id, *args)

    @hook_impl(trylast=True)
    def after_node_run(self, run_id) -> None:
        """Let go of the run in a worker, which may serve another run next."""
        self._release(run_id, "FINISHED")

    @hook_impl(trylast=True)
    def on_node_error(self, run_id) -> None:
        """Let go of the run in a worker, which may serve another run next."""
        self._release(run_id, "FAILED")

    @hook_impl(trylast=True)
    def after_pipeline_run(self, run_params) -> None:
        """Log the files that the catalog names, and end the run as FINISHED."""
        self._finish(run_params["run_id"], "FINISHED")

    @hook_impl(trylast=True)
    def on_pipeline_error(self, error, run_params) -> None:
        """Record node, error and traceback, and end the run as FAILED."""
        self._finish(run_params["run_id"], "FAILED", error)

    def _open(self, tags: dict[str, str]) -> tuple[Any, str]:
        """Join the caller's run, or open one; return it and who has opened it."""
        import mlflow

        store.withdraw("MLFLOW_RUN_ID")  # left by an interrupted run
        uri, joined = os.environ["MLFLOW_TRACKING_URI"], os.environ.get("MLFLOW_RUN_ID")
        journal.deliver(self._project, uri, joined)
        if active := mlflow.active_run():
            # With what was logged since.
            return mlflow.get_run(active.info.run_id), "caller"
        if joined:
            # The launcher's run decides the experiment, whatever its name says.
            os.environ.pop("MLFLOW_EXPERIMENT_NAME", None)
            run = mlflow.start_run()
            launched = "mlflow.project.entryPoint" in run.data.tags
            return run, "mlflow run" if launched else "other"
        experiment = store.experiment_id(self._config, self._project)
        return store.new_run(experiment, tags), "us"

    def _release(self, run_id: str, status: str) -> None:
        """Deactivate the run in a worker thread or process, without ending it."""
        recording = self._recordings[run_id]
        if (os.getpid(), threading.get_ident()) != (recording.pid, recording.thread):
            end_active(recording.mlflow_id, above=status, ours="RUNNING")

    def _finish(
        self,
        run_id: str,
        status: str,
        error: BaseException | None = None,
        patience: dict[str, str] = store.LAST,
    ) -> None:
        """End a run: in the journal first, then at the store, in about a minute."""
        recording = self._recordings.pop(run_id)
        entry = recording.entry
        if entry:
            entry.owe(status)
        calls = store.LastCalls(recording.mlflow_id, patience)
        versioned: list[Path] = []
        try:
            store.withdraw("MLFLOW_RUN_ID")
            if error:
                calls.attempt("its failure", self._record_failure, recording, error)
            if status != "KILLED":
                for name in recording.unread:  # by this process
                    if file := recording.inputs[name]:
                        describe = provenance.describe_input
                        calls.attempt(name, describe, name, file, None)
                for name, file in recording.inputs.items():  # read in chunks till now
                    if name in recording.lazy:
                        calls.attempt(name, provenance.check_unchanged, name, file)
                of = recording.pipeline, recording.catalog
                written = recording.locks.written()
                saved = provenance.saved_files(run_id, written, *of)
                versioned = [file.path for file in saved.values() if file.versioned]
                about: Any = {"kedro_id": run_id, "started": recording.started}
                about["complete"] = status == "FINISHED"
                asked = artifacts.asked_for(recording.inputs, saved, *of, **about)
                for artifact in asked:
                    what = f"the artifact of {artifact.name}"
                    calls.attempt(what, artifacts.log, artifact)
            if calls.missing:
                add = provenance.add_to_missing
                calls.attempt("what was missing before", add, calls.missing)
            calls.say_what_is_missing()
        except BaseException:  # Ctrl-C
            calls.until = 0.0
            logger.error("MLflow has not got all of run %s.", recording.mlflow_id)
            raise
        finally:  # whatever happens, it has to come off MLflow's stack
            ended = calls.attempt("its end", self._end, recording, status, last=True)
            owed = not ended or recording.opened_by != "us" or recording.made_again
            # A request that got no answer in time may have been done twice.
            late = time.time() - recording.started > store.ANSWER
            if ended and entry and (late or status != "FINISHED"):
                beside = "the end of runs beside it", store.remove_strays
                owed |= not calls.attempt(*beside, last=True)
            if entry:
                entry.close(delivered=not owed)
            recording.locks.release(versioned)
        if not ended:
            logger.error(
                "MLflow could not be told that run %s has ended %s (%s). %s",
                *(recording.mlflow_id, status, calls.missing[-1]),
                "The next `kedro run` in this folder tells it." if entry else "",
            )

    def _record_failure(self, run_id: str, recording: Recording, error) -> None:
        of = recording.pipeline, recording.catalog
        failure = provenance.describe_failure(error, *of)
        if recording.entry:
            recording.entry.add(failure)
        provenance.log_failure(run_id, failure)

    def _end(self, run_id: str, recording: Recording, status: str) -> None:
        """Take our run off MLflow's stack and end it; let go of others' runs."""
        from mlflow import MlflowClient

        ours = {
            "us": status,
            # It ends the run by our exit status; but may be interrupted with us.
            "mlflow run": status if status == "KILLED" else "RUNNING",
            "other": "RUNNING",
            "caller": None,
        }[recording.opened_by]
        was_active = end_active(run_id, above=status, ours=ours)
        if not was_active and ours not in (None, "RUNNING"):
            # A node has ended it, or this is another thread.
            MlflowClient().set_terminated(run_id, ours)

    def _prepare_for_the_end(self) -> None:
        """End open runs as KILLED when the process is interrupted or terminated."""
        # Registered after MLflow's own handler, which would say FINISHED: runs first.
        atexit.unregister(self._end_open_runs)
        atexit.register(self._end_open_runs)
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        ):
            signal.signal(signal.SIGTERM, exit_on_sigterm)

    def _end_open_runs(self) -> None:
        for run_id, recording in list(self._recordings.items()):
            if recording.pid == os.getpid():
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # we are leaving
                self._finish(run_id, "KILLED", patience=store.HURRIED)

    def _end_interrupted_run(self) -> None:
        """End the run that Ctrl-C has left active in a notebook."""
        import mlflow

        run = mlflow.active_run()
        within = AbstractRunner.run.__code__
        running = any(f.f_code is within for f, _ in traceback.walk_stack(None))
        if run and "kedro.run_id" in run.data.tags and not running:
            self._recordings.pop(run.data.tags["kedro.run_id"], None)
            mlflow.end_run("KILLED")

    def _refuse_misspelt_parameters(self, runtime_params: dict) -> None:
        """Refuse ``--params`` that are nearly declared; a new name may be meant."""
        declared = copy.copy(self._loader)
        declared.runtime_params = {}
        known = list(declared["parameters"])
        for name in set(runtime_params) - set(known):
            if near := difflib.get_close_matches(name, known, n=1):
                raise ClickException(
                    f"Unknown parameter: {name}. Did you mean {near[0]}? "
                    f"parameters.yml has: {', '.join(known)}."
                )
            logger.warning("Parameter %s is new: no parameters.yml has it.", name)


def warn_of_kedro_mlflow() -> None:
    """Say that a plugin records the same runs, and reads the same mlflow.yml."""
    installed = {
        entry.dist.name for entry in entry_points(group="kedro.hooks") if entry.dist
    }
    switched_off = {
        name.replace("_", "-") for name in settings.DISABLE_HOOKS_FOR_PLUGINS
    }
    if "kedro-mlflow" in installed - switched_off:
        logger.warning(
            "The plugin kedro-mlflow is installed: it records the same runs and reads "
            "the same mlflow.yml. Switch it off in settings.py: "
            'DISABLE_HOOKS_FOR_PLUGINS = ("kedro_mlflow", "kedro-mlflow")'
        )


def check_options(pipeline: Any, catalog: Any) -> None:
    """Have typed parameters that can check themselves do so, before anything runs."""
    for name in pipeline.inputs():
        if name.startswith("params:") and (parameter := catalog.get(name)):
            if callable(check := getattr(parameter.load(), "check", None)):
                check()


def joined_runs() -> set[str]:
    """Return the ids of the MLflow runs that a pipeline run would join."""
    found = {store.chosen("MLFLOW_RUN_ID")}
    if mlflow := sys.modules.get("mlflow"):
        if active := mlflow.active_run():
            found |= {active.info.run_id, active.data.tags.get("mlflow.parentRunId")}
    return {run_id for run_id in found if run_id}


def nested(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return dotted names, which Kedro's server hands on, as the command line does."""
    if not any("." in name for name in parameters):
        return parameters
    found = OmegaConf.create()
    for name, value in parameters.items():
        OmegaConf.update(found, name, value)
    plain: Any = OmegaConf.to_container(found)
    return plain


def end_active(run_id: str, above: str, ours: str | None) -> bool:
    """End this thread's active runs down to one; return whether it was among them.

    Args:
        run_id: The MLflow run to stop at.
        above: The status of nested runs that a node has left open.
        ours: The status of the run itself; None leaves it active.
    """
    import mlflow

    if not (active := mlflow.active_run()):
        return False
    if active.info.run_id == run_id:
        if ours:
            mlflow.end_run(ours)
        return True
    try:
        mlflow.end_run(above)
    finally:  # it is off the stack all the same
        found = end_active(run_id, above, ours)
    return found


def exit_on_sigterm(signum: int, _frame) -> None:
    """Leave as after ``sys.exit``, so that open runs are ended; stop the workers."""
    for child in multiprocessing.active_children():
        child.terminate()
    raise SystemExit(128 + signum)
