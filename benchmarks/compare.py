"""What tracking costs, beside other ways to have it: times, memory, sizes, ratios.

    make bench                                  everything: about an hour
    make bench-quick                            what a change may spoil: five minutes
    make bench MEASURES="runs commands"         some of it
    make bench MEASURES="runs --rounds=15"      steadier medians

All train the same estimator on the same data, as whole processes, in alternation:

- plain: the pipeline's four nodes, MLflow not imported: the floor
- article: MLflow called in the nodes, as in the article of 2019
- kedro-mlflow: the plugin's hook and datasets
- script: all that ours records, in one script with MLflow and without Kedro
- untracked: the generated project without its hooks and what speaks to MLflow
- ours: the generated project

Prints Markdown, and keeps every sample in benchmarks/results.json. In parentheses: how
far a figure would go from series to series, 90 % of the time (bootstrapped rounds).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import shutil
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path

from timing import (
    Figure,
    Samples,
    Task,
    against,
    alternate,
    environment,
    extra,
    memory_against,
    spread,
    table,
)

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = ROOT / "build" / "bench"
PEERS = HERE / "peers"
IRIS = ROOT / "{{ cookiecutter.repo_name }}" / "data" / "01_raw" / "iris.csv"
ROWS, HISTORY, SCORED_ROWS = 5_000_000, 1_000, 10_000_000

Ratio = tuple[str, Figure, float]  # what, how it is computed, not to be exceeded


def call(*command: str | Path, cwd: Path | None = None) -> None:
    """Run a command that prepares a measurement.

    Raises:
        SystemExit: It has failed.
    """
    done = subprocess.run(
        command,
        cwd=cwd or BUILD,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\n{' '.join(map(str, command))} failed")


def build_environment(name: str, *packages: str | Path) -> Path:
    """Build an environment, once until `make clean`; return its ``bin``."""
    folder = BUILD / f"env-{name}"
    if not folder.exists():
        call("uv", "venv", "--python", sys.executable, folder)
        install = ("uv", "pip", "install", "--compile-bytecode", "--python", folder)
        call(*install, *packages)
    return folder / "bin"


def new(name: str, *options: str) -> Path:
    """Generate a project; return its folder."""
    shutil.rmtree(BUILD / name, ignore_errors=True)
    call("kedro", "new", f"--name={name}", "--telemetry=no", *options)
    return BUILD / name


def ours(name: str) -> Path:
    """Generate our project; return its folder."""
    return new(name, f"--starter={ROOT}")


def untracked(name: str) -> Path:
    """Generate our project and take out what speaks to MLflow; return its folder."""
    project = ours(name)
    package = project / "src" / name
    shutil.copytree(PEERS / "untracked", package, dirs_exist_ok=True)
    for apart in ("monitor", "score", "tune"):
        shutil.rmtree(package / "pipelines" / apart)
    nodes = package / "pipelines" / "data_science" / "nodes.py"
    speaking = r"^(import mlflow|from mlflow\b.*|from \w+ import tracking)\n"
    text = re.sub(speaking, "", nodes.read_text(), flags=re.MULTILINE)
    later = "from __future__ import annotations\n\nimport logging\n"
    nodes.write_text(text.replace("import logging\n", later, 1))
    with (package / "settings.py").open("a") as settings:
        settings.write("\nHOOKS = ()\n")
    return project


def replace(file: Path, old: str, new: str) -> None:
    """Replace text of a generated file.

    Raises:
        SystemExit: The file has no such text any more.
    """
    text = file.read_text()
    if old not in text:
        sys.exit(f"{file} has no {old!r} any more")
    file.write_text(text.replace(old, new))


def unwatched(name: str) -> Path:
    """Generate our project, whose scoring counts nothing; return its folder."""
    project = ours(name)
    scoring = project / "src" / name / "pipelines" / "score"
    replace(scoring / "nodes.py", "FEATURES, report, count)", "FEATURES, report)")
    chosen = "def create_pipeline(**kwargs) -> Pipeline:\n"
    alone = '    return create_all().filter(node_names=["score_flowers"])\n\n\n'
    create_all = "def create_all() -> Pipeline:\n"
    replace(scoring / "pipeline.py", chosen, chosen + alone + create_all)
    return project


def empty(name: str) -> Path:
    """Generate Kedro's own project without an example; return its folder."""
    return new(name, "--tools=none", "--example=n")


def peer(name: str, *overlays: str) -> Path:
    """Fill an empty project with a peer's pipeline; return its folder."""
    shutil.rmtree(BUILD / name, ignore_errors=True)
    project = empty("peer").rename(BUILD / name)
    for overlay in overlays:
        shutil.copytree(PEERS / overlay, project, dirs_exist_ok=True)
    (project / "data" / "01_raw").mkdir(parents=True)
    shutil.copy(IRIS, project / "data" / "01_raw")
    return project


def read_files(folder: Path) -> None:
    """Bring an environment's files into the system's cache, where imports find them.

    Large data drive them out on some machines, and the next process reads from disk.
    """
    for file in folder.rglob("*"):
        if file.suffix in (".py", ".pyc", ".so"):
            file.read_bytes()


def script() -> Task:
    """Return the training in one script, in a folder of its own."""
    folder = BUILD / "script"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(PEERS / "script", folder)
    shutil.copy(IRIS, folder)
    python = BUILD / "env-ours" / "bin" / "python"
    return Task("script", (str(python), "train.py"), folder)


def forget(project: Path) -> None:
    """Remove a project's tracking store."""
    for file in project.glob("mlflow.db*"):
        file.unlink()
    shutil.rmtree(project / "mlruns", ignore_errors=True)


def fill(project: Path, python: Path) -> None:
    """Run the pipeline HISTORY times in a project's store, half of it from a twin."""
    shutil.rmtree(twin := BUILD / "twin", ignore_errors=True)
    shutil.copytree(project, twin)
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{project / 'mlflow.db'}"}
    command = (python, HERE / "history.py")
    pair = [
        subprocess.Popen(
            (*command, folder, str(HISTORY // 2)),
            env=environment() | store,
            stdout=subprocess.DEVNULL,
        )
        for folder in (project, twin)
    ]
    if any([process.wait() for process in pair]):
        sys.exit(f"the history of {project} could not be made")


def write_rows(file: Path, rows: int, labelled: bool = True) -> None:
    """Write flowers like those of the example, each a little different."""
    columns = slice(None if labelled else -1)
    lines = IRIS.read_text().split()
    header, *flowers = (line.split(",")[columns] for line in lines)
    chance = random.Random(0)
    with file.open("w") as out:
        out.write(f"{','.join(header)}\n")
        for _ in range(rows // len(flowers)):
            for flower in flowers:
                shift = chance.random() / 10
                cells = [f"{float(measure) + shift:.3f}" for measure in flower[:4]]
                out.write(f"{','.join(cells + flower[4:])}\n")


def measure_runs(rounds: int) -> tuple[Samples, list[Ratio]]:
    """Measure whole runs of the pipeline, beside the peers and in other stores."""
    project, long, fresh = ours("ours"), ours("long"), ours("fresh")
    requirements = ("-r", project / "requirements.txt")
    env = build_environment("ours", *requirements)
    plugin = build_environment("plugin", *requirements, "kedro-mlflow")
    run = (str(env / "kedro"), "run")
    fill(long, env / "python")
    trivial = BUILD / "trivial"
    trivial.mkdir(exist_ok=True)
    (trivial / "MLproject").write_text('entry_points: {main: {command: "true"}}\n')
    launch = (str(env / "mlflow"), "run", ".", "--env-manager=local")
    store = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{project / 'mlflow.db'}",
        "MLFLOW_EXPERIMENT_NAME": "ours",
        "PATH": f"{env}:{os.environ['PATH']}",
    }
    tasks = [
        Task("plain", run, peer("plain", "plain")),
        Task(
            *("article", run, peer("article", "plain", "article")),
            env={"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"},
        ),
        Task(
            *("kedro-mlflow", (str(plugin / "kedro"), "run")),
            peer("kedro-mlflow", "plain", "kedro-mlflow"),
        ),
        Task("untracked", run, untracked("untracked")),
        script(),
        Task("ours", run, project),
        Task("ours, `mlflow run`", launch, project, store),
        Task("`mlflow run` of nothing", launch, trivial, store),
        Task("ours, empty store", run, fresh, before=lambda: forget(fresh)),
        Task(f"ours, after {HISTORY:,} runs", run, long),
    ]
    limits = {"plain": 1.75, "untracked": 2.0, "script": 0.8}
    limits |= {"article": 0.50, "kedro-mlflow": 0.48}
    stores = {
        "`mlflow run` / `kedro run`": ("ours, `mlflow run`", 1.6),
        "empty store / warm store": ("ours, empty store", 1.5),
        f"run {HISTORY + 1:,} / run 1": (f"ours, after {HISTORY:,} runs", 1.1),
    }
    return alternate(tasks, rounds), [
        (f"ours / {name}", against("ours", name), limit)
        for name, limit in limits.items()
    ] + [(what, against(name, "ours"), limit) for what, (name, limit) in stores.items()]


def measure_rows(rounds: int) -> tuple[Samples, list[Ratio]]:
    """Measure whether tracking grows with the data."""
    pairs = {"": (untracked("untracked"), ours("ours"))}
    pairs[" of many rows"] = untracked("manyuntracked"), ours("many")
    for project in pairs[" of many rows"]:
        write_rows(project / "data" / "01_raw" / "iris.csv", ROWS)
    env = build_environment("ours", "-r", pairs[""][1] / "requirements.txt")
    # Three steps of the solver, in one thread: more is no tracking, and blurs it.
    run = (str(env / "kedro"), "run", "--params=model_options.max_iter=3")
    still = {"env": {"OMP_NUM_THREADS": "1"}, "before": lambda: read_files(env.parent)}
    tasks = [
        Task(f"{name}{size}", run, project, **still)
        for size, projects in pairs.items()
        for name, project in zip(("untracked", "ours"), projects, strict=True)
    ]

    def growth(samples: Samples) -> float:
        plain, few, plain_many, many = samples.values()
        return extra(many, plain_many) / extra(few, plain)

    memory = memory_against("ours of many rows", "untracked of many rows")
    # A small difference of long times needs more rounds than a ratio.
    return alternate(tasks, 3 * rounds), [
        (f"extra seconds of tracking, {ROWS:,} rows / 150 rows", growth, 1.5),
        (f"peak memory with tracking / without, {ROWS:,} rows", memory, 1.1),
    ]


def measure_commands(rounds: int) -> tuple[Samples, list[Ratio]]:
    """Measure commands that run no pipeline."""
    projects = {"empty project": empty("empty"), "ours": ours("ours")}
    env = build_environment("ours", "-r", projects["ours"] / "requirements.txt")
    # The second one imports the nodes, and what they import.
    words = {"kedro --help": ("--help",), "kedro registry list": ("registry", "list")}
    limits = {"kedro --help": 1.2, "kedro registry list": 3.5}
    tasks = [
        Task(f"`{command}`, {name}", (str(env / "kedro"), *options), project)
        for command, options in words.items()
        for name, project in projects.items()
    ]
    return alternate(tasks, rounds), [
        (
            f"`{command}`, ours / empty project",
            against(f"`{command}`, ours", f"`{command}`, empty project"),
            limits[command],
        )
        for command in words
    ]


def measure_new(rounds: int) -> tuple[Samples, list[Ratio]]:
    """Measure the generation of a project."""
    folder = BUILD / "generated"
    folder.mkdir(exist_ok=True)

    def clean() -> None:
        shutil.rmtree(folder)
        folder.mkdir()

    command = ("kedro", "new", "--name=made", "--telemetry=no")
    built_in = (*command, "--tools=none", "--example=n")
    starter = (*command, f"--starter={ROOT}")
    tasks = [
        Task("`kedro new`, built-in template", built_in, folder, before=clean),
        Task("`kedro new`, ours", starter, folder, before=clean),
    ]
    mine = against("`kedro new`, ours", "`kedro new`, built-in template")
    return alternate(tasks, rounds), [("`kedro new`, ours / built-in", mine, 1.5)]


def measure_installation(rounds: int) -> tuple[Samples, list[Ratio]]:
    """Measure environments: installing them from a warm cache, and their size."""
    lists = {
        "starter and plugin": PEERS / "starter-and-plugin.txt",
        "ours": ours("ours") / "requirements.txt",
        "kedro and mlflow alone": PEERS / "kedro-and-mlflow.txt",
    }
    folders = {name: BUILD / f"install-{name[:4]}" for name in lists}

    def clean(folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        call("uv", "venv", "--python", sys.executable, folder)

    tasks = [
        Task(
            f"install {name}",
            ("uv", "pip", "install", "--python", str(folders[name]), "-r", str(file)),
            BUILD,
            before=lambda folder=folders[name]: clean(folder),
        )
        for name, file in lists.items()
    ]
    samples = alternate(tasks, rounds)
    sizes = {
        name: sum(f.lstat().st_size for f in folder.rglob("*") if f.is_file())
        for name, folder in folders.items()
    }
    print({name: f"{size / 2**20:.0f} MiB" for name, size in sizes.items()})
    bases = {"starter and plugin": 0.6, "kedro and mlflow alone": 1.1}
    time = against("install ours", "install starter and plugin")
    return samples, [
        ("installation of the environment, ours / starter and plugin", time, 0.6)
    ] + [
        (
            f"size of the environment, ours / {base}",
            lambda _, base=base: sizes["ours"] / sizes[base],
            limit,
        )
        for base, limit in bases.items()
    ]


def scoring_tasks(project: Path, env: Path, many: list[int]) -> list[Task]:
    """Return the scoring of tables of 150 and of many rows, and Arrow's copying."""
    call(env / "kedro", "run", cwd=project)
    copier = str(PEERS / "arrow" / "copy_table.py")
    tasks = []
    for rows in (150, *many):
        file = BUILD / f"flowers-{rows}.csv"
        write_rows(file, rows, labelled=False)
        given = f"--params=score_options.input={file}"
        words = (str(env / "kedro"), "run", "--pipelines=score", given)
        copy = (str(env / "python"), copier, str(file), str(BUILD / "copy.csv"))
        tasks.append(Task(f"score {rows:,} rows", words, project))
        tasks.append(Task(f"copy {rows:,} rows with Arrow", copy, BUILD))
    return tasks


def scoring_ratio(rows: int) -> Ratio:
    """Return what scoring costs beside Arrow's copying, both beyond an empty start."""

    def figure(samples: Samples) -> float:
        name, few = "copy {:,} rows with Arrow".format, 150
        copied = extra(samples[name(rows)], samples[name(few)])
        scored = extra(samples[f"score {rows:,} rows"], samples[f"score {few:,} rows"])
        return scored / copied

    return f"scoring / copying with Arrow, {rows:,} rows", figure, 2.5


def measure_scoring(rounds: int) -> tuple[Samples, list[Ratio]]:
    """Measure the scoring of large files, beside reading and writing them."""
    project, many = ours("scoring"), [2_000_000, SCORED_ROWS]
    env = build_environment("ours", "-r", project / "requirements.txt")
    memory = memory_against(f"score {many[-1]:,} rows", "score 150 rows")
    return alternate(scoring_tasks(project, env, many), rounds), [
        *map(scoring_ratio, many),
        (f"peak memory, {many[-1]:,} rows / 150 rows", memory, 1.2),
    ]


def measure_watching(rounds: int) -> tuple[Samples, list[Ratio]]:
    """Measure what it costs to watch a model while it scores many rows, and six."""
    projects = {"watched": ours("watched"), "unwatched": unwatched("unwatched")}
    requirements = projects["watched"] / "requirements.txt"
    env = build_environment("ours", "-r", requirements)
    many = BUILD / "flowers-to-watch.csv"
    write_rows(many, SCORED_ROWS, labelled=False)
    score = (str(env / "kedro"), "run", "--pipelines=score")
    few, large = "{}, 6 rows".format, f"{{}}, {SCORED_ROWS:,} rows".format
    tasks = []
    for name, project in projects.items():
        call(env / "kedro", "run", cwd=project)
        given = f"--params=score_options.input={many}"
        tasks.append(Task(few(name), score, project))
        tasks.append(Task(large(name), (*score, given), project))
    samples = alternate(tasks, rounds)
    for project in projects.values():  # a gigabyte
        (project / "data" / "07_model_output" / "scored_flowers.csv").unlink()
    many.unlink()

    def longer(samples: Samples) -> float:
        return extra(samples[few("watched")], samples[few("unwatched")])

    time = against(large("watched"), large("unwatched"))
    flat = memory_against(large("watched"), few("watched"))
    beside = memory_against(large("watched"), large("unwatched"))
    return samples, [
        (f"time, watched / unwatched, {SCORED_ROWS:,} rows", time, 1.15),
        (f"peak memory, watched, {SCORED_ROWS:,} rows / 6 rows", flat, 1.2),
        (f"peak memory, watched / unwatched, {SCORED_ROWS:,} rows", beside, 1.2),
        ("extra seconds of watching, 6 rows", longer, 0.1),
    ]


def measure_tuning(rounds: int) -> tuple[Samples, list[Ratio]]:
    """Measure what a candidate costs in a tuning beyond the bare search."""
    tasks, few, many = [], 4, 104
    for candidates in (few, many):
        values = [round(0.1 * 1.05**n, 4) for n in range(candidates // 2)]  # each twice
        project = ours(f"tuning{candidates}")
        grid = {"param_grid": {"logisticregression__C": values}}
        options = {"tune_options": grid, "parallel": {"n_jobs": 1}}
        (project / "conf/local/parameters.yml").write_text(json.dumps(options))
        env = build_environment("ours", "-r", project / "requirements.txt")
        tune = (str(env / "kedro"), "run", "--pipelines=tune")
        search = (str(env / "python"), str(PEERS / "search" / "search.py"))
        tasks.append(Task(f"tune, {candidates} candidates", tune, project))
        alone = (*search, str(IRIS), str(values))
        tasks.append(Task(f"search alone, {candidates} candidates", alone, BUILD))

    def figure(samples: Samples) -> float:
        tune_few, search_few, tune_many, search_many = samples.values()
        more = extra(tune_many, tune_few) - extra(search_many, search_few)
        return 1000 * more / (many - few)

    return alternate(tasks, rounds), [("ms a candidate, beyond the search", figure, 20)]


def measure_quick(rounds: int) -> tuple[Samples, list[Ratio]]:
    """Measure the four ratios that a change is most likely to spoil."""
    project, rows = ours("quick"), 2_000_000
    env = build_environment("ours", "-r", project / "requirements.txt")
    kedro = str(env / "kedro")
    tasks = [
        Task("plain", (kedro, "run"), peer("plain", "plain")),
        script(),
        Task("ours", (kedro, "run"), project),
        Task("`kedro --help`, empty project", (kedro, "--help"), empty("empty")),
        Task("`kedro --help`, ours", (kedro, "--help"), project),
        *scoring_tasks(project, env, [rows]),
    ]
    starts = against("`kedro --help`, ours", "`kedro --help`, empty project")
    return alternate(tasks, rounds), [
        ("ours / plain", against("ours", "plain"), 1.75),
        ("ours / script", against("ours", "script"), 0.8),
        ("`kedro --help`, ours / empty project", starts, 1.2),
        scoring_ratio(rows),
    ]


MEASURES = {
    "runs": measure_runs,
    "rows": measure_rows,
    "commands": measure_commands,
    "new": measure_new,
    "installation": measure_installation,
    "scoring": measure_scoring,
    "watching": measure_watching,
    "tuning": measure_tuning,
    "quick": measure_quick,
}


def main() -> None:
    """Measure what was asked for, print it, and keep it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("measures", nargs="*", help=", ".join(MEASURES))
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    if unknown := set(asked.measures) - set(MEASURES):
        parser.error(f"no such measure: {', '.join(unknown)}")
    BUILD.mkdir(parents=True, exist_ok=True)
    file = HERE / "results.json"
    kept = json.loads(file.read_text()) if file.exists() else {}
    for name in asked.measures or [name for name in MEASURES if name != "quick"]:
        samples, ratios = MEASURES[name](asked.rounds)
        measured = {
            what: (figure(samples), *spread(figure, samples))
            for what, figure, _ in ratios
        }
        print(f"\n## {name}\n\n{table(samples)}\n\n| | measured | at most |")
        print("|---|--:|--:|")
        for what, _, limit in ratios:
            value, low, high = measured[what]
            cell = f"{value:.2f} ({low:.2f} to {high:.2f})"
            print(f"| {what} | {cell} | {limit} |", flush=True)
        kept[name] = {
            "python": platform.python_version(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "samples": {
                key: [[round(x, 3) for x in astuple(sample)] for sample in taken]
                for key, taken in samples.items()
            },
            "ratios": {
                what: [round(value, 3) for value in values]
                for what, values in measured.items()
            },
        }
        file.write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
