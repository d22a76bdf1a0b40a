"""Pictures of what was scored."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from {{ cookiecutter.python_package }} import pictures, tracking

MOST_COLUMNS = 12


@pictures.reason_if_it_fails
def draw_drift(drift: dict[str, Any]) -> Figure:
    """Draw each column then and now, the worst first, if the rows are enough.

    Args:
        drift: What ``check_drift`` returns.
    """
    columns = drift["columns"] if drift["enough_rows"] else {}
    shown = list(columns.items())[:MOST_COLUMNS]
    count = max(len(shown), 1)
    rows = -(-count // 4)
    size = (4 * min(count, 4), 3.2 * rows if shown else 1)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(f"Drift: {drift['verdict']:.100}")
    for number, (name, column) in enumerate(shown, 1):
        ax = figure.add_subplot(rows, min(count, 4), number)
        then = tracking.bin_shares(column["trained_counts"])
        now = tracking.bin_shares(column["counts"])
        draw = plot_shares_up_to if "edges" in column else plot_shares
        draw(ax, column, then, now)
        mark = " (drifted)" if column["drifted"] else ""
        ax.set_title(f"{name:.30}: {column['distance']:.2f}{mark}", fontsize=10)
    if shown:
        figure.axes[0].legend()
    return figure


def plot_shares_up_to(ax: Axes, column: Any, then: Any, now: Any) -> None:
    """Plot the share of rows up to each number; the KS distance is the largest gap."""
    edges = column["edges"]
    if column["kind"] == "dates":
        edges = (np.array(edges) * 1e6).astype("datetime64[us]")
        ax.tick_params("x", rotation=30)
    ax.step(edges, np.cumsum(then)[:-1], where="post", label="trained")
    ax.step(edges, np.cumsum(now)[:-1], where="post", label="now")
    ax.set_ylabel("share up to here")


def plot_shares(ax: Axes, column: Any, then: Any, now: Any) -> None:
    """Plot the share of each category."""
    names = [*column.get("names", []), "others"]
    place = np.arange(len(names))[: len(then)]
    ax.bar(place - 0.2, then, 0.4, label="trained")
    ax.bar(place + 0.2, now, 0.4, label="now")
    ax.set_xticks(place, [f"{name:.12}" for name in names[: len(then)]], rotation=30)
    ax.set_ylabel("share")
