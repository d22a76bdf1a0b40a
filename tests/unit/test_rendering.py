"""The files of a generated project, for every name that is accepted."""

import ast
import json
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cookiecutter.main import cookiecutter
from packaging.requirements import Requirement
from runs import NAME, PACKAGE, REPO, ROOT, clean_environment, run
from test_names import ACCEPTED

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILES = f"""
.dockerignore
.github/dependabot.yml
.github/workflows/ci.yml
.gitignore
Dockerfile
MLproject
README.md
check.py
conda.yaml
conf/base/catalog.yml
conf/base/mlflow.yml
conf/base/parameters.yml
conf/cluster/catalog.yml
conf/cluster/globals.yml
conf/cluster/parameters.yml
conf/databricks/catalog.yml
conf/databricks/globals.yml
conf/databricks/mlflow.yml
conf/databricks/parameters.yml
conf/local/.gitkeep
config.sh
data/01_raw/iris.csv
data/01_raw/new_flowers.csv
data/02_intermediate/.gitkeep
data/06_models/.gitkeep
data/07_model_output/.gitkeep
data/08_reporting/.gitkeep
databricks.yml
notebooks/explore.ipynb
pyproject.toml
requirements.txt
src/{PACKAGE}/__init__.py
src/{PACKAGE}/__main__.py
src/{PACKAGE}/cli.py
src/{PACKAGE}/cluster.py
src/{PACKAGE}/datasets.py
src/{PACKAGE}/pipeline_registry.py
src/{PACKAGE}/pipelines/__init__.py
src/{PACKAGE}/pipelines/data_engineering/__init__.py
src/{PACKAGE}/pipelines/data_engineering/nodes.py
src/{PACKAGE}/pipelines/data_engineering/pipeline.py
src/{PACKAGE}/pipelines/data_science/__init__.py
src/{PACKAGE}/pipelines/data_science/figures.py
src/{PACKAGE}/pipelines/data_science/nodes.py
src/{PACKAGE}/pipelines/data_science/pipeline.py
src/{PACKAGE}/pipelines/score/__init__.py
src/{PACKAGE}/pipelines/score/nodes.py
src/{PACKAGE}/pipelines/score/pipeline.py
src/{PACKAGE}/pipelines/tune/__init__.py
src/{PACKAGE}/pipelines/tune/nodes.py
src/{PACKAGE}/pipelines/tune/pipeline.py
src/{PACKAGE}/schema.py
src/{PACKAGE}/settings.py
src/{PACKAGE}/tracking/__init__.py
src/{PACKAGE}/tracking/hooks.py
src/{PACKAGE}/tracking/journal.py
src/{PACKAGE}/tracking/origin.py
src/{PACKAGE}/tracking/provenance.py
src/{PACKAGE}/tracking/record.py
src/{PACKAGE}/tracking/registry.py
src/{PACKAGE}/tracking/search.py
src/{PACKAGE}/tracking/replay.py
src/{PACKAGE}/tracking/runs.py
src/{PACKAGE}/tracking/share.py
src/{PACKAGE}/tracking/store.py
tests/conftest.py
tests/test_nodes.py
tests/test_run.py
""".split()


def load_yaml(file: Path):
    return yaml.safe_load(file.read_text("utf-8"))


def load_toml(file: Path):
    return tomllib.loads(file.read_text("utf-8"))


def load_json(file: Path):
    return json.loads(file.read_text("utf-8"))


def parse_python(file: Path):
    return ast.parse(file.read_text("utf-8"), feature_version=(3, 10))


def parse_shell(file: Path):
    return run("bash", "-n", file, cwd=file.parent)


def lint_dockerfile(file: Path):
    return run("hadolint", file, cwd=file.parent)


def parse_requirements(file: Path):
    return [Requirement(line) for line in file.read_text("utf-8").splitlines()]


def read_text(file: Path):
    return file.read_text("utf-8")


# By suffix, or by name where there is none. A file of a new kind needs a line here.
PARSERS = {
    ".dockerignore": read_text,
    ".csv": read_text,
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
    "Dockerfile": lint_dockerfile,
    "MLproject": load_yaml,
}


def files(project: Path) -> dict[str, Path]:
    """Return a project's files by their path in it."""
    found = (path for path in project.rglob("*") if not path.is_dir())
    return {path.relative_to(project).as_posix(): path for path in found}


@pytest.fixture(scope="module", params=ACCEPTED, ids=lambda names: ascii(names))
def rendered(request, tmp_path_factory) -> tuple[dict[str, str], Path]:
    """Return all three names and the project that cookiecutter makes of them."""
    folder = tmp_path_factory.mktemp("rendered")
    config = folder / "config.yaml"
    config.write_text(json.dumps({"replay_dir": str(folder / "replay")}), "utf-8")
    project = cookiecutter(
        str(ROOT),
        no_input=True,
        extra_context=request.param,
        config_file=str(config),
        output_dir=str(folder / "projects"),
        accept_hooks=False,
    )
    project = Path(project)
    (package,) = (project / "src").iterdir()
    derived = {"repo_name": project.name, "python_package": package.name}
    return {**derived, **request.param}, project


def test_exactly_these_files_are_generated(generated):
    assert sorted(files(generated)) == sorted([".telemetry", *FILES])


def test_git_leaves_no_file_of_the_template_out():
    """The project's own .gitignore is at work in this repository too."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git repository")
    options = ("--others", "--ignored", "--exclude-standard", "--directory")
    template = ("--", "{{ cookiecutter.repo_name }}")
    assert run("git", "ls-files", *options, *template, cwd=ROOT).stdout == ""


def test_the_same_files_are_generated_for_every_name(rendered):
    names, project = rendered
    package = f"src/{names['python_package']}/"
    expected = [name.replace(f"src/{PACKAGE}/", package) for name in FILES]
    assert sorted(files(project)) == sorted(expected)


def test_nothing_of_the_template_or_of_this_machine_is_left(rendered):
    _, project = rendered
    here = (ROOT, project.parent, sys.prefix, Path.home(), Path.cwd())
    machine = [re.escape(f"{folder}/") for folder in here]
    left = re.compile("|".join([r"\{\{", "{%", "(?i:cookiecutter|starter)", *machine]))
    for name, file in files(project).items():
        text = re.sub(r"\$\{\{.*?\}\}", "", file.read_text("utf-8"))
        assert not left.findall(text), name


def test_every_file_parses(rendered):
    _, project = rendered
    for file in files(project).values():
        PARSERS[file.suffix or file.name](file)


def test_names_arrive_as_they_are_in_every_format(rendered):
    names, project = rendered
    package = names["python_package"]
    pyproject = load_toml(project / "pyproject.toml")
    assert pyproject["project"]["name"] == names["repo_name"]
    assert pyproject["tool"]["kedro"]["project_name"] == names["project_name"]
    assert pyproject["tool"]["kedro"]["package_name"] == package
    assert load_yaml(project / "MLproject")["name"] == names["repo_name"]
    assert load_yaml(project / "conda.yaml")["name"] == names["repo_name"]
    mlflow_yml = load_yaml(project / "conf/base/mlflow.yml")
    assert mlflow_yml["experiment_name"] == package
    module = parse_python(project / "src" / package / "__init__.py")
    assert ast.get_docstring(module) == names["project_name"]


def test_ruff_has_nothing_to_say(rendered):
    _, project = rendered
    ruff = (sys.executable, "-m", "ruff")
    run(*ruff, "check", "--no-cache", cwd=project)
    run(*ruff, "format", "--no-cache", "--diff", cwd=project)


@pytest.mark.parametrize("way", ["config", "prompts", "cookiecutter"])
def test_every_way_of_generating_makes_the_same_project(generated, tmp_path, way):
    replay = json.dumps({"replay_dir": str(tmp_path / "replay")})
    (tmp_path / "cookiecutter.yml").write_text(replay, "utf-8")
    answers = {"project_name": NAME, "repo_name": REPO, "python_package": PACKAGE}
    (tmp_path / "answers.yml").write_text(json.dumps(answers), "utf-8")
    (tmp_path / "projects").mkdir()
    kedro_new = ("kedro", "new", f"--starter={ROOT}", "--telemetry=no")
    config = f"--config-file={tmp_path / 'cookiecutter.yml'}"
    command, typed = {
        "config": ((*kedro_new, f"--config={tmp_path / 'answers.yml'}"), ""),
        "prompts": (kedro_new, f"{NAME}\n"),
        "cookiecutter": (("cookiecutter", str(ROOT), "--no-input", config), ""),
    }[way]
    subprocess.run(
        [sys.executable, "-m", *command],
        cwd=tmp_path / "projects",
        env=clean_environment(COOKIECUTTER_CONFIG=str(tmp_path / "cookiecutter.yml")),
        input=typed,
        text=True,
        check=True,
        timeout=60,
    )
    (made,) = (tmp_path / "projects").iterdir()
    assert made.name == REPO
    # Kedro's own record of the answer to --telemetry.
    kedros = {} if way == "cookiecutter" else {".telemetry"}
    assert set(files(made)) == {*FILES, *kedros}
    for name in FILES:
        assert (made / name).read_bytes() == (generated / name).read_bytes(), name


def test_conda_yaml_asks_for_what_requirements_txt_asks_for(generated):
    *_, pip = load_yaml(generated / "conda.yaml")["dependencies"]
    assert pip["pip"] == (generated / "requirements.txt").read_text().splitlines()


def test_conda_yaml_names_the_python_that_generated(generated):
    python, pip, _ = load_yaml(generated / "conda.yaml")["dependencies"]
    assert (python, pip) == (f"python={platform.python_version()}", "pip")


def test_mlproject_hands_its_parameters_to_those_of_parameters_yml(generated):
    parameters = load_yaml(generated / "conf/base/parameters.yml")
    declared = {
        f"{group}.{name}": value
        for group, options in parameters.items()
        # `-P params=` hands over the others.
        if group not in ("promote_options", "tune_options", "parallel")
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
            defaults = [entry["parameters"][name]["default"] for name in names]
            handed |= dict(zip(targets, defaults, strict=True))
    assert handed == declared


def test_mlproject_commands_use_declared_parameters_only(generated):
    for entry in load_yaml(generated / "MLproject")["entry_points"].values():
        used = set(re.findall(r"\{(\w+)\}", entry["command"]))
        assert used == set(entry.get("parameters", {}))


def test_a_project_names_the_version_that_made_it(generated):
    made = tomllib.loads((generated / "pyproject.toml").read_text())
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert made["tool"]["mlflow-iris"]["version"] == ours["project"]["version"]
