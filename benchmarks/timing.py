"""Measure commands as whole processes, in alternation."""

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

UNIT = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss, in a MiB


@dataclass(frozen=True)
class Task:
    """A command, where it runs, and what is done before each time, unmeasured."""

    name: str
    command: tuple[str, ...]
    cwd: Path
    env: dict[str, str] = field(default_factory=dict)
    before: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Sample:
    """Wall time in seconds and peak memory in MiB of the process and its children."""

    seconds: float
    mib: float


Samples = dict[str, list[Sample]]  # by task, in the order of rounds
Figure = Callable[[Samples], float]


def environment() -> dict[str, str]:
    """Return the environment variables, without MLflow's and without telemetry."""
    kept = {k: v for k, v in os.environ.items() if "MLFLOW" not in k}
    return kept | {"DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}


def measure(task: Task) -> Sample:
    """Run a task once; its output is shown only if it fails.

    Raises:
        SystemExit: The command has failed.
    """
    task.before()
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            task.command,
            cwd=task.cwd,
            env=environment() | task.env,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            said = output.read().decode(errors="replace")
            sys.exit(f"{said}\n{task.name} failed: {' '.join(task.command)}")
    return Sample(seconds, usage.ru_maxrss / UNIT)


def alternate(tasks: list[Task], rounds: int) -> Samples:
    """Run all tasks once to warm up, then in rounds, each in another order."""
    for task in tasks:
        measure(task)
    samples: Samples = {task.name: [] for task in tasks}
    for number in range(rounds):
        for task in random.sample(tasks, len(tasks)):
            samples[task.name].append(measure(task))
            print(f"  {number + 1}/{rounds}  {task.name}", file=sys.stderr)
    return samples


def seconds(samples: list[Sample]) -> float:
    """Return the median wall time."""
    return statistics.median(sample.seconds for sample in samples)


def mib(samples: list[Sample]) -> float:
    """Return the median peak memory."""
    return statistics.median(sample.mib for sample in samples)


def ratio(samples: list[Sample], base: list[Sample]) -> float:
    """Return the median of the ratios of wall times, each within a round.

    A machine that is slow for minutes slows a round's tasks alike.
    """
    rounds = zip(samples, base, strict=True)
    return statistics.median(a.seconds / b.seconds for a, b in rounds)


def extra(samples: list[Sample], base: list[Sample]) -> float:
    """Return the median of the differences of wall times, each within a round."""
    rounds = zip(samples, base, strict=True)
    return statistics.median(a.seconds - b.seconds for a, b in rounds)


def against(name: str, base: str) -> Figure:
    """Return the figure that compares two tasks' wall times."""
    return lambda samples: ratio(samples[name], samples[base])


def memory_against(name: str, base: str) -> Figure:
    """Return the figure that compares two tasks' median peak memory."""
    return lambda samples: mib(samples[name]) / mib(samples[base])


def spread(figure: Figure, samples: Samples) -> tuple[float, float]:
    """Return the range of a figure's middle 90 % when rounds are drawn again by chance.

    Source: Efron, Bootstrap methods, 1979.
    """
    chance = random.Random(0)
    rounds = range(len(next(iter(samples.values()))))
    draws = [chance.choices(rounds, k=len(rounds)) for _ in range(1000)]
    low, *_, high = statistics.quantiles(
        (
            figure({name: [taken[i] for i in draw] for name, taken in samples.items()})
            for draw in draws
        ),
        n=20,
    )
    return low, high


def table(samples: Samples) -> str:
    """Return a Markdown table: medians, spreads, and ratios to the first task."""
    base = next(iter(samples.values()))
    lines = [
        "| | median s | min to max s | ratio | peak MiB |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, taken in samples.items():
        times = [sample.seconds for sample in taken]
        lines.append(
            f"| {name} | {seconds(taken):.2f} | {min(times):.2f} to {max(times):.2f}"
            f" | {ratio(taken, base):.2f} | {mib(taken):.0f} |"
        )
    return "\n".join(lines)
