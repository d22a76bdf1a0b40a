"""How sure the figures of the benchmarks are."""

import pytest
from runs import ROOT


@pytest.fixture
def timing(monkeypatch):
    """Return the module that measures."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import timing

    return timing


def test_a_figure_is_as_sure_as_its_rounds_agree(timing):
    base = [timing.Sample(seconds, 100) for seconds in (1, 2, 3, 4, 5)]
    twice = [timing.Sample(2 * sample.seconds, 100) for sample in base]
    figure = timing.against("a", "b")
    assert figure({"a": twice, "b": base}) == 2
    assert timing.spread(figure, {"a": twice, "b": base}) == (2, 2)
    noisy = {"a": base, "b": [timing.Sample(1, 100)] * 5}
    low, high = timing.spread(figure, noisy)
    assert 1 <= low < figure(noisy) == 3 < high <= 5
