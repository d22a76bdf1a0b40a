"""``kedro runs``: the last runs at a glance, and what differs between some of them."""

import re
from datetime import datetime, timedelta
from typing import Any

import click

from .. import names
from . import formats, project_runs

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
NOT_COMPARED = (
    "Not compared: the contents of models and artifacts (`kedro replay` compares "
    "models), metrics but for their last values, times, and what is only in conf/local."
)


def parse_since(_context: Any, _option: Any, given: str | None) -> datetime | None:
    """Read a date, a time, or how long ago: ``2026-11-24``, ``12h``, ``7d``."""
    if given is None:
        return None
    if ago := re.fullmatch(r"(\d{1,6})([mhdw])", given):
        return datetime.now() - timedelta(**{UNITS[ago[2]]: int(ago[1])})
    try:
        return datetime.fromisoformat(given)
    except ValueError:
        message = f"{given!r} is no date and no time: 2026-11-24, 12h or 7d"
        raise click.BadParameter(message) from None


@click.group(invoke_without_command=True)
@click.option("--last", "-n", default=10, show_default=True, help="How many runs.")
@click.option("--pipeline", help="Only runs of this pipeline.")
@click.option(
    "--status",
    type=click.Choice(["FINISHED", "FAILED", "KILLED", "RUNNING"], False),
    help="Only runs that ended like this, or have not ended.",
)
@click.option("--since", callback=parse_since, help="Only later runs: 2026-11-24, 7d.")
@click.option("--filter", "filter_", metavar="TEXT", help="A filter of MLflow's.")
@click.option("--metric", "metrics", multiple=True, help="A column; may be repeated.")
@click.option("--param", "params", multiple=True, help="A column; may be repeated.")
@formats.format_option
@project_runs.env_option
@click.pass_context
def runs(
    context, last, pipeline, status, since, filter_, metrics, params, format_, env
):
    """Show the last runs of this project, newest first.

    A filter is for example "metrics.accuracy > 0.9 and params.`model_options.C` = '1'".

    Exit status: 0, or 2 in trouble.
    """
    if context.invoked_subcommand:
        return
    wanted = [project_runs.MADE_BY_KEDRO]
    if pipeline:
        wanted.append(f"tags.`kedro.pipeline` = {names.quoted(pipeline)}")
    if status:
        wanted.append(f"attributes.status = '{status}'")
    if since:
        wanted.append(f"attributes.start_time >= {since.timestamp() * 1e3:.0f}")
    if filter_:
        wanted.append(filter_)
    with project_runs.project_store(context.obj.project_path, env) as experiment:
        found = project_runs.last_runs(experiment, " and ".join(wanted), last)
    if format_ == "json":
        click.echo(formats.to_json([describe(run) for run in found]))
    elif found:
        click.echo(formats.render(list_rows(found, metrics, params), format_))
    else:
        none = "No runs yet: `kedro run` makes the first."
        click.echo("No run is like this." if wanted[1:] else none)


def list_rows(found: list[Any], metrics: Any, params: Any) -> list[tuple[str, ...]]:
    """Return a row for each run; without ``metrics``, with the one that decides."""
    judged = (run.data.tags.get("registry.metric") for run in found)
    metrics = metrics or [next(filter(None, judged), "metric")]
    columns = "run", "started", "pipeline", "status", *metrics, *params, "commit", ""
    rows: list[tuple[str, ...]] = [columns]
    for run in map(describe, found):
        scores = run["metrics"]
        rows.append(
            (
                run["run_id"][:8],
                run["started"][:19].replace("T", " "),
                run["pipeline"],
                run["status"],
                *(f"{scores[name]:.4g}" if name in scores else "" for name in metrics),
                *(run["parameters"].get(name, "") for name in params),
                (run["commit"] or "none")[:7],
                "dirty" if run["dirty"] else "",
            )
        )
    return rows


def describe(run: Any) -> dict[str, Any]:
    """Return a run for JSON."""
    tags, started = run.data.tags, datetime.fromtimestamp(run.info.start_time / 1e3)
    return {
        "run_id": run.info.run_id,
        "name": run.info.run_name,
        "started": started.astimezone().isoformat(),
        "pipeline": tags.get("kedro.pipeline", ""),
        "status": run.info.status,
        "metrics": run.data.metrics,
        "parameters": run.data.params,
        "commit": tags.get(names.COMMIT_TAG),
        "dirty": tags.get("git.dirty") == "true",
    }


@runs.command()
@click.argument("given", metavar="RUN RUN...", nargs=-1, required=True)
@formats.format_option
@project_runs.env_option
@click.pass_obj
def diff(metadata: Any, given: tuple[str, ...], format_: str, env: str | None) -> None:
    """Show what differs between runs.

    Parameters, metrics, data, packages and code. A RUN is an id or its first digits,
    "last", a model such as models:/NAME@champion, or the run's name.

    Exit status: 0 if nothing differs, 1 if something does, 2 in trouble.
    """
    if len(given) < 2:
        raise click.UsageError("Give two runs, or more.")
    with project_runs.project_store(metadata.project_path, env) as experiment:
        some = [project_runs.resolve_run(name, experiment) for name in given]
        summaries = [project_runs.run_summary(run) for run in some]
    found, left = list(project_runs.differences(*summaries)), not_compared(summaries)
    ids = [run.info.run_id for run in some]
    if format_ == "json":
        each = [
            {"section": section, "name": name, "values": values}
            for section, name, *values in found
        ]
        content = {"runs": ids, "differences": each, "not_compared": left}
        click.echo(formats.to_json(content))
    else:
        rows = [("", "", *(run_id[:8] for run_id in ids)), *found]
        click.echo(formats.render(rows, format_) if found else "equal")
        click.echo("\n" + "\n".join(left))
    raise SystemExit(bool(found))


def not_compared(summaries: list[project_runs.Summary]) -> list[str]:
    """Return sentences about what a comparison leaves out."""
    missing = [
        kind for kind in ("code", "packages") if not all(s[kind] for s in summaries)
    ]
    said = f"Not every run has recorded its {' and '.join(missing)}."
    return [NOT_COMPARED, said] if missing else [NOT_COMPARED]
