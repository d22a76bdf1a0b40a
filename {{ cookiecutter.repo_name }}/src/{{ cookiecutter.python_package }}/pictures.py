"""Pictures never stop a run: one that cannot be drawn says why."""

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

logger = logging.getLogger(__name__)


def reason_if_it_fails(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Return a picture of the reason, and warn, where a picture cannot be drawn."""

    @functools.wraps(draw)
    def drawn(*data: Any) -> Figure:
        try:
            with rc_context({"text.parse_math": False}):  # a label may hold $
                figure = draw(*data)
                figure.draw_without_rendering()  # what fails, fails here
            figure.set_layout_engine("none")  # it stays as it is laid out
        except Exception as error:
            reason = f"{draw.__name__} has failed: {error}"
            logger.warning("A picture is missing: %s", reason)
            figure = Figure(figsize=(5, 4))
            figure.text(0.05, 0.5, f"{reason:.500}", wrap=True, parse_math=False)
        return figure

    # Kedro's %load_node takes the imports of a node from the file of its code.
    node: Any = drawn
    node.__code__ = node.__code__.replace(co_filename=inspect.getsourcefile(draw))
    return node
