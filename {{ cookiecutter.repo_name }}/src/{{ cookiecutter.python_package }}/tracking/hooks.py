"""Kedro's hooks: which moment of a pipeline run calls what."""

import importlib.util
import logging
import os
import signal
import sys
import traceback
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from click import ClickException
from kedro.framework.hooks import hook_impl
from kedro.runner import AbstractRunner

from . import catalog_files, client, config, datasets, names, parameters, provenance
from .artifacts import warn_of_unknown_settings
from .data_locks import DataLocks, joined_runs, read_timeout
from .environment import set_env

logger = logging.getLogger(__name__)


class MLflowRunHooks:
    """Open or join the MLflow run, log what made it, and end it.

    One instance serves all sessions of a process, also several at a time: runs that are
    under way are kept by Kedro's run id.
    """

    def __init__(self) -> None:
        self._runs: dict[str, Any] = {}  # of class ActiveRun

    @hook_impl(tryfirst=True)
    def after_context_created(self, context) -> None:
        """Set where runs go, for notebooks too; end a run that Ctrl-C left open."""
        if not importlib.util.find_spec("mlflow"):
            raise ClickException(
                'MLflow is not installed: pip install "mlflow>=3.17,<4"'
            )
        library = logging.getLogger(__name__.partition(".")[0])
        if library.level == logging.NOTSET:  # Kedro sets that of the project's package
            library.setLevel(logging.INFO)
        # skops looks for these functions in one loaded module after another.
        import scipy.special  # noqa: F401

        self._loader = context.config_loader
        self._loader.runtime_params = parameters.expand_dotted(
            self._loader.runtime_params or {}
        )
        config.warn_of_kedro_mlflow()
        self._config = config.read_config(self._loader)
        self._project = Path(context.project_path)
        self._env = context.env or self._loader.default_run_env
        config.configure(self._config, self._project)
        if "mlflow" in sys.modules:
            self._end_interrupted_run()

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params, pipeline, catalog) -> None:
        """Wait for the files, open the run or join the caller's, log what made it."""
        given = parameters.expand_dotted(run_params["runtime_params"] or {})
        parameters.refuse_misspelt(self._loader, given)
        parameters.check_options(pipeline, catalog)
        external = catalog_files.external_inputs(pipeline)
        locks = DataLocks(
            writes=catalog_files.shared_paths(pipeline.all_outputs(), catalog),
            reads=catalog_files.shared_paths(external, catalog),
            joined=joined_runs(),
        )
        locks.acquire(read_timeout(self._config))
        try:
            self._start(run_params, pipeline, catalog, given, locks)
        except BaseException:
            locks.release()
            raise

    def _start(self, run_params, pipeline, catalog, given, locks) -> None:
        """Open or join the MLflow run, and log what is known of it already."""
        kedro_id, started = run_params["run_id"], datetime.now(timezone.utc)
        conf_source = str(self._loader.conf_source)
        run_params = {**run_params, "env": self._env, "conf_source": conf_source}
        planned = catalog_files.nodes_to_run(pipeline, catalog, run_params)
        running = [node.name for node in planned.nodes]
        if skipped := {node.name for node in pipeline.nodes} - set(running):
            run_params |= {"node_names": running, "skipped_nodes": sorted(skipped)}
        tags = provenance.run_tags(run_params, planned)
        try:
            with client.verify_store(self._project):
                from . import active_run  # which imports MLflow

                run, opened_by, pending = active_run.open_run(
                    self._config, self._project, tags
                )
                self._runs[kedro_id] = active_run.ActiveRun(
                    kedro_id,
                    run.info.run_id,
                    opened_by,
                    planned,
                    catalog,
                    started,
                    locks,
                    pending,
                    in_workers=tags["kedro.runner"] == "ParallelRunner",
                )
                active_run.install_exit_handlers(self._end_open_runs)
            self._log_provenance(self._runs[kedro_id], run, run_params, tags, given)
        except BaseException as error:
            if kedro_id in self._runs:
                status = "FAILED" if isinstance(error, Exception) else "KILLED"
                self._runs.pop(kedro_id).finish(status, error, client.EXIT)
            raise
        if self._runs[kedro_id].in_workers:
            # Worker processes find the run by these, also those that run no hooks.
            set_env("MLFLOW_RUN_ID", run.info.run_id)
            os.environ[names.PACKAGE_VARIABLE] = names.project_package()

    def _log_provenance(self, active, run, run_params, tags, given) -> None:
        """Log parameters, tags, and what reproduces the run."""
        pipeline, catalog = active.pipeline, active.catalog
        active.locks.name_run(active.mlflow_id)
        client.log_run_url(run)
        catalog_files.pin_versions(pipeline, catalog, active.kedro_id)
        warn_of_unknown_settings(pipeline, catalog)
        active.inputs = datasets.input_files(pipeline, catalog)
        active.unread = set(active.inputs)
        more_tags, reproduction = provenance.reproduction(
            run_params, active.inputs, dirty=tags.get("git.dirty") == "true"
        )
        used = parameters.used_parameters(pipeline, catalog, given)
        with client.verify_store(self._project):
            provenance.log_all(run, tags | more_tags, used, reproduction)

    @hook_impl(tryfirst=True)
    def before_node_run(self, node, inputs, run_id) -> None:
        """Make the run active where the node runs, and log the inputs that it reads."""
        active = self._runs[run_id]
        active.activate()
        names.node_namespace.set(node.namespace)
        for name, data in inputs.items():
            active.log_input(name, data)

    @hook_impl(trylast=True)
    def after_node_run(self, run_id) -> None:
        """Deactivate the run in a worker, which may work for another run next."""
        self._runs[run_id].release("FINISHED")

    @hook_impl(trylast=True)
    def on_node_error(self, run_id) -> None:
        """Deactivate the run in a worker, which may work for another run next."""
        self._runs[run_id].release("FAILED")

    @hook_impl(trylast=True)
    def after_pipeline_run(self, run_params) -> None:
        """Log the files that the catalog names, and end the run as FINISHED."""
        self._runs.pop(run_params["run_id"]).finish("FINISHED")

    @hook_impl(trylast=True)
    def on_pipeline_error(self, error, run_params) -> None:
        """Log node, error and traceback, and end the run as FAILED."""
        self._runs.pop(run_params["run_id"]).finish("FAILED", error)

    def _end_open_runs(self) -> None:
        for kedro_id, active in list(self._runs.items()):
            if active.pid == os.getpid():
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # we are leaving
                self._runs.pop(kedro_id).finish("KILLED", None, client.EXIT)

    def _end_interrupted_run(self) -> None:
        """End the run that Ctrl-C has left active in a notebook."""
        import mlflow

        run = mlflow.active_run()
        within = AbstractRunner.run.__code__
        running = any(f.f_code is within for f, _ in traceback.walk_stack(None))
        if run and "kedro.run_id" in run.data.tags and not running:
            self._runs.pop(run.data.tags["kedro.run_id"], None)
            mlflow.end_run("KILLED")
