"""The life of the MLflow run: one pipeline run is one MLflow run, truthfully ended."""

from __future__ import annotations

import atexit
import copy
import difflib
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Sized
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from click import ClickException
from kedro.framework.hooks import hook_impl
from kedro.framework.project import settings
from kedro.runner import AbstractRunner

from . import (
    active_run,
    artifacts,
    catalog_files,
    client,
    code,
    config,
    data_locks,
    datasets,
    environment,
    failures,
    names,
    parameters,
    recovery,
)

logger = logging.getLogger(__name__)

logger = logging.getLogger(__name__)


class MLflowRunHooks:
    """Opens or joins the MLflow run, records what made it, and ends it.

    One instance serves all sessions of a process, also several at a time: what is
    under way is kept by Kedro's run id.
    """

    def __init__(self) -> None:
        self._recordings: dict[str, active_run.ActiveRun] = {}

    @hook_impl(tryfirst=True)
    def after_context_created(self, context) -> None:
        """Set where runs go, for notebooks too; end a run that Ctrl-C left open."""
        # skops looks for these functions in one loaded module after another.
        import scipy.special  # noqa: F401

        self._loader = context.config_loader
        self._loader.runtime_params = parameters.expand_dotted(
            self._loader.runtime_params or {}
        )
        warn_of_kedro_mlflow()
        self._config = config.read_config(self._loader)
        self._project = Path(context.project_path)
        self._env = context.env or self._loader.default_run_env
        config.configure(self._config, self._project)
        if "mlflow" in sys.modules:
            self._end_interrupted_run()

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params, pipeline, catalog) -> None:
        """Wait for the files, and open the run or join the caller's."""
        given = parameters.expand_dotted(run_params["runtime_params"] or {})
        self._refuse_misspelt_parameters(given)
        parameters.check_options(pipeline, catalog)
        locks = data_locks.DataLocks(
            writes=catalog_files.shared_paths(pipeline.all_outputs(), catalog),
            reads=catalog_files.shared_paths(
                catalog_files.external_inputs(pipeline), catalog
            ),
            joined=active_run.joined_runs(),
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
        todo = catalog_files.nodes_to_run(pipeline, catalog, run_params)
        tags = active_run.run_tags(run_params, todo, self._project, self._env)
        if skipped := {n.name for n in pipeline.nodes} - {n.name for n in todo.nodes}:
            tags["kedro.skipped_nodes"] = ",".join(sorted(skipped))
            planned = [node.name for node in todo.nodes]
            run_params = {**run_params, "node_names": planned}
        try:
            with client.verify_store(self._project):
                run, opened_by = self._open(tags)
                of = opened_by, todo, catalog, began, locks
                recording = active_run.ActiveRun(run.info.run_id, *of)
                recording.made_again = "creation.again" in run.data.tags
                self._recordings[run_id] = recording
                self._prepare_for_the_end()
                if opened_by in ("us", "mlflow run"):
                    where = self._project, run.info.run_id
                    uri = os.environ["MLFLOW_TRACKING_URI"]
                    recording.entry = recovery.PendingRun(*where, uri)
            locks.name_run(run.info.run_id)
            client.log_run_url(run)
            catalog_files.pin_versions(todo, catalog, run_id)
            artifacts.warn_of_unknown_settings(todo, catalog)
            files = datasets.input_files(todo, catalog)
            recording.inputs, recording.unread = files, set(files)
            taken = parameters.used_parameters(todo, catalog, given)
            options = code.run_options(run_params, self._env, files)
            made_by = datasets.find_writers(files)
            known, reproduction = code.reproduction_artifacts(
                options, files, made_by, self._project, tags
            )
            with client.verify_store(self._project):
                active_run.log_provenance(run, tags | known, taken, reproduction)
        except BaseException as error:
            if run_id in self._recordings:
                status = "FAILED" if isinstance(error, Exception) else "KILLED"
                self._finish(run_id, status, error, client.EXIT)
            raise
        if tags["kedro.runner"] == "ParallelRunner":
            # The way into worker processes, also into those that have no hooks.
            environment.set_env("MLFLOW_RUN_ID", recording.mlflow_id)

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
        names.node_namespace.set(node.namespace)
        for name in inputs.keys() & recording.unread:
            recording.unread.remove(name)
            read = inputs[name]
            if isinstance(read, Iterable) and not isinstance(read, Sized):
                recording.lazy.add(name)
            args = (name, recording.inputs[name], inputs[name])
            datasets.log_input_or_warn(recording.mlflow_id, *args)

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

        environment.unset_env("MLFLOW_RUN_ID")  # left by an interrupted run
        uri, joined = os.environ["MLFLOW_TRACKING_URI"], os.environ.get("MLFLOW_RUN_ID")
        recovery.finish_interrupted_runs(self._project, uri, joined)
        if active := mlflow.active_run():
            # With what was logged since.
            return mlflow.get_run(active.info.run_id), "caller"
        if joined:
            # The launcher's run decides the experiment, whatever its name says.
            os.environ.pop("MLFLOW_EXPERIMENT_NAME", None)
            run = mlflow.start_run()
            launched = "mlflow.project.entryPoint" in run.data.tags
            return run, "mlflow run" if launched else "other"
        experiment = config.experiment_id(self._config, self._project)
        return recovery.create_run(experiment, tags), "us"

    def _release(self, run_id: str, status: str) -> None:
        """Deactivate the run in a worker thread or process, without ending it."""
        recording = self._recordings[run_id]
        if (os.getpid(), threading.get_ident()) != (recording.pid, recording.thread):
            active_run.end_active(recording.mlflow_id, above=status, ours="RUNNING")

    def _finish(
        self,
        run_id: str,
        status: str,
        error: BaseException | None = None,
        patience: dict[str, str] = client.FINISH,
    ) -> None:
        """End a run: in the journal first, then at the store, in about a minute."""
        recording = self._recordings.pop(run_id)
        entry = recording.entry
        if entry:
            entry.owe(status)
        calls = client.BestEffortCalls(recording.mlflow_id, patience)
        versioned: list[Path] = []
        try:
            environment.unset_env("MLFLOW_RUN_ID")
            if error:
                calls.attempt("its failure", self._record_failure, recording, error)
            if status != "KILLED":
                for name in recording.unread:  # by this process
                    if file := recording.inputs[name]:
                        describe = datasets.log_input
                        calls.attempt(name, describe, name, file, None)
                for name, file in recording.inputs.items():  # read in chunks till now
                    if name in recording.lazy:
                        calls.attempt(name, datasets.check_unchanged, name, file)
                of = recording.pipeline, recording.catalog
                written = recording.locks.written()
                saved = catalog_files.saved_files(run_id, written, *of)
                versioned = [file.path for file in saved.values() if file.versioned]
                about: Any = {"kedro_id": run_id, "started": recording.started}
                about["complete"] = status == "FINISHED"
                asked = artifacts.asked_for(recording.inputs, saved, *of, **about)
                for artifact in asked:
                    what = f"the artifact of {artifact.name}"
                    calls.attempt(what, artifacts.log, artifact)
            if calls.missing:
                add = datasets.prepend_missing
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
            late = time.time() - recording.started > client.ANSWER_SECONDS
            if ended and entry and (late or status != "FINISHED"):
                beside = "the end of runs beside it", recovery.end_orphan_runs
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

    def _record_failure(
        self, run_id: str, recording: active_run.ActiveRun, error
    ) -> None:
        of = recording.pipeline, recording.catalog
        described = failures.describe_failure(error, *of)
        if recording.entry:
            recording.entry.add(described)
        failures.log_failure(run_id, described)

    def _end(self, run_id: str, recording: active_run.ActiveRun, status: str) -> None:
        """Take our run off MLflow's stack and end it; let go of others' runs."""
        from mlflow import MlflowClient

        ours = {
            "us": status,
            # It ends the run by our exit status; but may be interrupted with us.
            "mlflow run": status if status == "KILLED" else "RUNNING",
            "other": "RUNNING",
            "caller": None,
        }[recording.opened_by]
        was_active = active_run.end_active(run_id, above=status, ours=ours)
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
            signal.signal(signal.SIGTERM, active_run.exit_on_sigterm)

    def _end_open_runs(self) -> None:
        for run_id, recording in list(self._recordings.items()):
            if recording.pid == os.getpid():
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # we are leaving
                self._finish(run_id, "KILLED", patience=client.EXIT)

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
