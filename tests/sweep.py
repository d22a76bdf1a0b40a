"""Break every request of whole runs once in every way, and write down what came of it.

    make faults                          everything: hours; goes on where it was stopped
    make faults SWEEP="--sample 50 --seed 1"
    make faults SWEEP="--scenario score --fault gone --fault 503"

Into its folder go a line a case (``cases.jsonl``), the logs of cases that lied, and the
tables (``faults.md``).
"""

import argparse
import json
import queue
import random
import re
import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from faults import FAULTS, FOR_GOOD, OUTCOMES, SCENARIOS, Bench, Case
from runs import build_environment, free_port, generate, run, tracking_server

Key = tuple[str, str, str]


def read(results: Path) -> dict[Key, Case]:
    """Return the cases that are done already."""
    lines = results.read_text().splitlines() if results.exists() else []
    cases = [Case(**json.loads(line)) for line in lines]
    return {(case.scenario, case.request, case.fault): case for case in cases}


def sweep(todo: list[Key], benches: queue.Queue, folder: Path) -> None:
    """Do all cases, as many at a time as there are benches; write each down."""

    def one(key: Key) -> tuple[Case, str]:
        bench = benches.get()
        try:
            return bench.run(*key)
        finally:
            benches.put(bench)

    began = time.monotonic()
    pool = ThreadPoolExecutor(benches.qsize())
    waiting = [pool.submit(one, key) for key in todo]
    try:
        for number, future in enumerate(as_completed(waiting), start=1):
            case, log = future.result()
            key = (case.scenario, case.request, case.fault)
            with (folder / "cases.jsonl").open("a") as results:
                results.write(json.dumps(asdict(case)) + "\n")
            if case.mismatches:
                name = re.sub(r"[^\w.-]+", "_", "-".join(key))
                (folder / "logs" / f"{name}.txt").write_text(log)
            left = (time.monotonic() - began) / number * (len(todo) - number) / 60
            said = "; ".join(one.partition(":")[0] for one in case.mismatches)
            line = f"{number}/{len(todo)} {' | '.join(key)} | {case.outcome} {said}"
            print(f"{line} ({case.seconds} s; {left:.0f} min left)", flush=True)
    finally:  # Ctrl-C waits for the cases under way only
        pool.shutdown(cancel_futures=True)


def tables(cases: list[Case]) -> str:
    """Return the outcomes in Markdown: counted, one by one, and the mismatches."""
    text = []
    for title, name in [("whole run", "scenario"), ("one request is", "fault")]:
        text += [f"| {title} | cases | {' | '.join(OUTCOMES)} |"]
        text += ["|---|" + "--:|" * (1 + len(OUTCOMES))]
        for group in dict.fromkeys(getattr(case, name) for case in cases):
            found = Counter(c.outcome for c in cases if getattr(c, name) == group)
            counts = " | ".join(str(found[outcome] or "") for outcome in OUTCOMES)
            text += [f"| {group} | {found.total()} | {counts} |"]
        text += [""]
    text += [f"- **{word}**: {meaning}" for word, meaning in OUTCOMES.items()]
    ways = list(dict.fromkeys(case.fault for case in cases))
    for scenario in dict.fromkeys(case.scenario for case in cases):
        found = {(c.request, c.fault): c for c in cases if c.scenario == scenario}
        text += ["", f"## {scenario}", "", f"| request | {' | '.join(ways)} |"]
        text += ["|---|" + "---|" * len(ways)]
        for request in dict.fromkeys(request for request, _ in found):
            row = [found.get((request, fault)) for fault in ways]
            cells = " | ".join(case.outcome if case else "" for case in row)
            text += [f"| {request} | {cells} |"]
    text += ["", "## Mismatches", ""]
    kinds: Counter[str] = Counter()
    for case in cases:
        kinds.update({one.partition(":")[0] for one in case.mismatches})
    text += [f"- {count} cases: {kind}" for kind, count in kinds.most_common()]
    for case in cases:
        if case.mismatches:
            text += [f"- {case.scenario}, {case.request}, {case.fault}"]
            text += [f"  - {one}" for one in case.mismatches]
    return "\n".join(text) + "\n"


def main() -> None:
    """Run what the command line asks for."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS)
    parser.add_argument("--fault", action="append", choices=FAULTS | FOR_GOOD)
    parser.add_argument("--request", default="", help="a regular expression")
    parser.add_argument("--sample", type=int, help="so many cases, at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time")
    parser.add_argument("--folder", type=Path, default=Path("artifacts/faults"))
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    shutil.rmtree(folder / "work", ignore_errors=True)
    for name in ("logs", "work"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    project = generate(folder / "work")
    words = ("-r", str(project / "requirements.txt"))
    bin_ = build_environment(folder / "work" / "environment", *words)
    database = folder / "work" / "empty.db"
    run(bin_ / "mlflow", "db", "upgrade", f"sqlite:///{database}", cwd=folder)
    benches: queue.Queue[Bench] = queue.Queue()
    with ExitStack() as stack:
        for number in range(asked.jobs):
            (home := folder / "work" / f"bench{number}").mkdir()
            shutil.copy(database, home / "server.db")
            stack.enter_context(tracking_server(bin_, home, port := free_port()))
            benches.put(bench := Bench(home, project, bin_, port))
        todo = [
            (scenario, request, fault)
            for scenario in asked.scenario or SCENARIOS
            for request, able in bench.faults(scenario).items()
            for fault in (asked.fault or FAULTS)
            if (fault in able or fault in FOR_GOOD)
            and re.search(asked.request, request)
        ]
        if asked.sample:
            todo = random.Random(asked.seed).sample(todo, asked.sample)
        done = read(folder / "cases.jsonl")
        sweep([key for key in todo if key not in done], benches, folder)
    done = read(folder / "cases.jsonl")
    order = {key: number for number, key in enumerate(todo)}
    cases = [done[key] for key in sorted(done, key=lambda k: order.get(k, len(order)))]
    (folder / "faults.md").write_text(tables(cases))
    shutil.rmtree(folder / "work")
    found = Counter(case.outcome for case in cases)
    print(f"{found.total()} cases: {dict(found)} -- {folder / 'faults.md'}")


if __name__ == "__main__":
    main()
