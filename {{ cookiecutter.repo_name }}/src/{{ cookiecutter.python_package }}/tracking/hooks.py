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
from dataclasses import dataclass, field

from click import ClickException
from kedro.framework.hooks import hook_impl
from kedro.runner import AbstractRunner
from omegaconf import OmegaConf

from . import provenance, store

logger = logging.getLogger(__name__)


@dataclass
class Recording:
    """The MLflow run of a pipeline run that is under way."""

    mlflow_id: str
    opened_by: str  # "us", "caller" (this process) or "launcher" (`mlflow run`)
    inputs: dict[str, provenance.File | None] = field(default_factory=dict)
    pid: int = field(default_factory=os.getpid)
    thread: int = field(default_factory=threading.get_ident)
    started: float = field(default_factory=time.time)


class MLflowRunHooks:
    """Opens or joins the MLflow run, records what made it, and ends it.

    One instance serves all sessions of a process, also several at a time: what is
    under way is kept by Kedro's run id.
    """

    def __init__(self) -> None:
        self._recordings: dict[str, Recording] = {}

    @hook_impl
    def after_context_created(self, context) -> None:
        """Set where runs go, for notebooks too; end a run that Ctrl-C left open."""
        self._loader = context.config_loader
        # Kedro's server hands on dotted names as they are; the command line nests them.
        given = OmegaConf.create()
        for name, value in self._loader.runtime_params.items():
            OmegaConf.update(given, name, value)
        self._loader.runtime_params = OmegaConf.to_container(given)
        self._config = store.read_config(self._loader)
        self._project = context.project_path
        self._env = context.env or self._loader.default_run_env
        store.configure(self._config, self._project)
        if "mlflow" in sys.modules:
            self._end_interrupted_run()

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params, pipeline, catalog) -> None:
        """Open the run, or join the caller's, before anything is computed."""
        self._refuse_misspelt_parameters(self._loader.runtime_params)
        run_id = run_params["run_id"]
        tags = provenance.identity(run_params, pipeline, self._project, self._env)
        with store.first_contact():
            recording = self._open(tags)
            self._recordings[run_id] = recording
        self._prepare_for_the_end()
        try:
            given = run_params["runtime_params"]
            taken = provenance.taken(pipeline, catalog, given)
            provenance.record_origin(recording.mlflow_id, tags, taken)
            files = provenance.record_files(recording.mlflow_id, pipeline, catalog)
            recording.inputs.update(files)
        except BaseException:
            self._try_to_close(run_id, "FAILED")
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
        for name in inputs.keys() & recording.inputs.keys():
            file = recording.inputs.pop(name)
            provenance.record_input(recording.mlflow_id, name, file, inputs[name])

    @hook_impl(trylast=True)
    def after_node_run(self, run_id) -> None:
        """Let go of the run in a worker, which may serve another run next."""
        self._release(run_id, "FINISHED")

    @hook_impl(trylast=True)
    def on_node_error(self, run_id) -> None:
        """Let go of the run in a worker, which may serve another run next."""
        self._release(run_id, "FAILED")

    @hook_impl(trylast=True)
    def after_pipeline_run(self, run_params, pipeline, catalog) -> None:
        """Log the saved files that the catalog names, and end the run as FINISHED."""
        run_id = run_params["run_id"]
        recording = self._recordings[run_id]
        try:
            store.check_contact(recording.mlflow_id)
            self._record_other_files(recording)
            provenance.record_outputs(
                recording.mlflow_id, run_id, recording.started, pipeline, catalog
            )
        except BaseException:
            self._try_to_close(run_id, "FAILED")
            raise
        self._close(run_id, "FINISHED")

    @hook_impl(trylast=True)
    def on_pipeline_error(self, error, run_params, pipeline, catalog) -> None:
        """Record node, error and traceback, and end the run as FAILED."""
        run_id = run_params["run_id"]
        recording = self._recordings[run_id]
        try:
            store.check_contact(recording.mlflow_id)
            provenance.record_failure(recording.mlflow_id, error, pipeline, catalog)
            self._record_other_files(recording)
            provenance.record_outputs(
                recording.mlflow_id, run_id, recording.started, pipeline, catalog
            )
        except Exception as trouble:  # the pipeline's own error must reach the caller
            logger.error("MLflow has no record of this failure: %s", trouble)
        finally:
            self._try_to_close(run_id, "FAILED")

    def _record_other_files(self, recording: Recording) -> None:
        """Log the input files that no node of this process has loaded."""
        for name, file in recording.inputs.items():
            if file:
                provenance.record_input(recording.mlflow_id, name, file, None)
        recording.inputs.clear()

    def _open(self, tags: dict[str, str]) -> Recording:
        """Join the run that the caller has opened, or open one."""
        import mlflow

        store.withdraw("MLFLOW_RUN_ID")  # left by an interrupted run
        if run := mlflow.active_run():
            opened_by = "caller"
        elif "MLFLOW_RUN_ID" in os.environ:
            # The launcher's run decides the experiment, whatever its name says.
            os.environ.pop("MLFLOW_EXPERIMENT_NAME", None)
            run, opened_by = mlflow.start_run(), "launcher"
        else:
            experiment = store.experiment_id(self._config)
            store.close_dead_runs(experiment)
            run = mlflow.start_run(
                experiment_id=experiment, tags={**tags, **store.process_tags()}
            )
            opened_by = "us"
            store.export("MLFLOW_EXPERIMENT_ID", experiment)
        return Recording(run.info.run_id, opened_by)

    def _release(self, run_id: str, status: str) -> None:
        """Deactivate the run in a worker thread or process, without ending it."""
        import mlflow

        recording = self._recordings[run_id]
        if (os.getpid(), threading.get_ident()) != (recording.pid, recording.thread):
            end_runs_above(recording.mlflow_id, status)
            mlflow.end_run("RUNNING")

    def _close(self, run_id: str, status: str) -> None:
        """End our run with this status; let go of the caller's."""
        import mlflow

        recording = self._recordings.pop(run_id)
        store.withdraw("MLFLOW_RUN_ID")
        if signal.getsignal(signal.SIGTERM) is exit_on_sigterm and not self._recordings:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with store.first_contact():  # the store may be gone by now
            end_runs_above(recording.mlflow_id, status)
            if recording.opened_by == "launcher":  # ends it; but may die with us
                mlflow.end_run(status if status == "KILLED" else "RUNNING")
            elif recording.opened_by == "us":
                if mlflow.active_run():
                    mlflow.end_run(status)
                else:  # a node has ended it, or this is another thread
                    mlflow.MlflowClient().set_terminated(recording.mlflow_id, status)

    def _try_to_close(self, run_id: str, status: str) -> None:
        """End our run without hiding the error or signal that ends the pipeline."""
        try:
            self._close(run_id, status)
        except Exception as trouble:
            logger.error("The MLflow run may still say RUNNING: %s", trouble)

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
                self._try_to_close(run_id, "KILLED")

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


def end_runs_above(run_id: str, status: str) -> None:
    """End nested runs that a node has left open in this thread."""
    import mlflow

    while (active := mlflow.active_run()) and active.info.run_id != run_id:
        mlflow.end_run(status)


def exit_on_sigterm(signum: int, _frame) -> None:
    """Leave as after ``sys.exit``, so that open runs are ended; stop the workers."""
    for child in multiprocessing.active_children():
        child.terminate()
    raise SystemExit(128 + signum)
