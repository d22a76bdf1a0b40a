"""Tables for tests of counts and drift: of one column, and random ones."""

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

few = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
floats = st.floats(width=32) | st.sampled_from([0.0, -1.0, np.inf, -np.inf, np.nan])
texts = st.none() | st.sampled_from(["", "a", "b", "c", "ü", "1"]) | st.text()
tables = st.lists(st.tuples(floats, texts), max_size=60).map(
    lambda rows: pd.DataFrame(
        {
            "number": pd.Series([row[0] for row in rows], dtype=float),
            "text": pd.Series([row[1] for row in rows], dtype=object),
        }
    )
)


def column(values, **kwargs) -> pd.DataFrame:
    """Return a table with the column ``x``."""
    return pd.DataFrame({"x": pd.Series(values, **kwargs)})
