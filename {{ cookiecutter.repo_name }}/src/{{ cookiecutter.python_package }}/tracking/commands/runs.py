"""``kedro runs``: the last runs at a glance, and what differs between two of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from .. import names
from . import project_runs


@click.group(invoke_without_command=True)
@click.option("--last", "-n", default=10, show_default=True, help="How many runs.")
@project_runs.env_option
@click.pass_context
def runs(context: click.Context, last: int, env: str | None) -> None:
    """Show the last runs of this project, newest first.

    Exit status: 0, or 2 in trouble.
    """
    if context.invoked_subcommand:
        return
    from mlflow import MlflowClient

    made_by_kedro, newest = (
        "tags.`kedro.run_id` LIKE '%'",
        ["attributes.start_time DESC"],
    )
    with project_runs.project_store(context.obj.project_path, env) as experiment:
        pages = MlflowClient().search_runs(
            [experiment], made_by_kedro, max_results=last, order_by=newest
        )
    found = [run for run in pages if project_runs.INCOMPLETE_TAG not in run.data.tags]
    judged = (run.data.tags.get("registry.metric") for run in found)
    metric = next(filter(None, judged), "metric")
    rows = [("run", "started", "pipeline", "status", metric, "commit", "")]
    for run in found:
        info, tags, score = run.info, run.data.tags, run.data.metrics.get(metric)
        rows.append(
            (
                info.run_id[:8],
                f"{datetime.fromtimestamp(info.start_time / 1e3):%Y-%m-%d %H:%M:%S}",
                tags.get("kedro.pipeline", ""),
                info.status,
                "" if score is None else f"{score:.4g}",
                tags.get(names.COMMIT_TAG, "none")[:7],
                "dirty" if tags.get("git.dirty") == "true" else "",
            )
        )
    click.echo(
        project_runs.table(rows)
        if found
        else "No runs yet: `kedro run` makes the first."
    )


@runs.command()
@click.argument("one", metavar="RUN_ID")
@click.argument("other", metavar="RUN_ID")
@project_runs.env_option
@click.pass_obj
def diff(metadata: Any, one: str, other: str, env: str | None) -> None:
    """Show what differs between two runs.

    Parameters, metrics, data, packages and code. The first digits of an id are enough.

    Exit status: 0 if nothing differs, 1 if something does, 2 in trouble.
    """
    with project_runs.project_store(metadata.project_path, env):
        pair = project_runs.resolve_run(one), project_runs.resolve_run(other)
        found = list(project_runs.differences(*map(project_runs.run_summary, pair)))
    ids = (run.info.run_id[:8] for run in pair)
    click.echo(project_runs.table([("", "", *ids), *found]) if found else "equal")
    raise SystemExit(bool(found))
