"""Pictures of what a model is worth today."""

from typing import Any

from matplotlib.figure import Figure

from {{ cookiecutter.python_package }} import pictures


@pictures.reason_if_it_fails
def draw_quality_today(quality: dict[str, Any]) -> Figure:
    """Draw each metric when the model was trained, and today.

    Args:
        quality: What ``check_quality`` returns.
    """
    metrics, trained = quality["metrics"], quality["trained"]
    size = (max(2.2 * len(metrics), 6), 3.2)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(f"{quality['rows']} rows: {quality['verdict']:.90}", fontsize=10)
    axes = figure.subplots(1, len(metrics), squeeze=False).flat
    for ax, (name, value) in zip(axes, metrics.items(), strict=True):
        bars = {"trained": trained[name]} if name in trained else {}
        bars |= {"today": value}
        colours = ["C0", "C1"][-len(bars) :]
        drawn = ax.bar(list(bars), list(bars.values()), color=colours)
        ax.bar_label(drawn, fmt="%.3g")
        ax.set_title(name, fontsize=10)
    return figure
