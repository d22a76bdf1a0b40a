"""Time and peak memory of scoring a file, by its number of rows.

    python benchmarks/score.py 150 1_000_000 10_000_000

Needs `make demo` first: the demo's environment and champion are used.
"""

import json
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = ROOT / "demo" / "iris-flowers"


def write_flowers(file: Path, rows: int) -> None:
    """Repeat the flowers of the project's example until there are enough."""
    header, *lines = (PROJECT / "data/01_raw/iris.csv").read_text().splitlines()
    block = "".join(f"{line.rpartition(',')[0]}\n" for line in lines)
    with file.open("w") as out:
        out.write(header.rpartition(",")[0] + "\n")
        for _ in range(rows // len(lines)):
            out.write(block)


def measure(rows: int) -> dict[str, float]:
    """Score one file in a process of its own.

    Returns:
        Wall time in seconds, peak memory in MiB, size of the file in MiB.
    """
    file = PROJECT / "data" / "flowers.csv"
    write_flowers(file, rows)
    command = ["mlflow", "run", ".", "-e", "score", "--env-manager", "uv"]
    command += ["-P", f"input={file}"]
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{PROJECT / 'mlflow.db'}"}
    size, start = file.stat().st_size, time.perf_counter()
    pid = os.posix_spawnp(
        command[0],
        command,
        os.environ | store,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - start
    file.unlink()
    if status:
        sys.exit("scoring failed")
    peak = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {"rows": rows, "seconds": wall, "peak MiB": peak, "file MiB": size / 2**20}


def main() -> None:
    """Measure each number of rows given, print a table, and keep it as JSON."""
    if not PROJECT.exists():
        sys.exit("There is no demo/: run `make demo` first.")
    os.chdir(PROJECT)
    rows = [int(word) for word in sys.argv[1:]] or [150, 1_000_000, 10_000_000]
    measured = [measure(n) for n in rows]
    for line in measured:
        print("  ".join(f"{name} {value:,.1f}" for name, value in line.items()))
    (ROOT / "benchmarks" / "score.json").write_text(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
