"""Generating a project: `kedro new` and `cookiecutter`, with good and bad names."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from names import (
    GOOD,
    LIBRARY,
    SHAPE,
    files_and_folders,
    helpful,
    make_folder_with_work,
    make_small_template,
)
from runs import NAME, PACKAGE, REPO, ROOT, clean_environment, path_of


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """Return the starter's questions and hook, with a project of one file."""
    return make_small_template(tmp_path_factory.mktemp("starter"))


@pytest.fixture
def here(tmp_path) -> Path:
    """Return a folder to generate in, which already holds the folder ``kept``."""
    return make_folder_with_work(tmp_path / "projects")


@pytest.fixture
def kedro_new(fork, bin_, template, here):
    """Return a function that generates from the small template."""

    def command(*options: str):
        words = (bin_ / "kedro", "new", f"--starter={template}", *options)
        config = str(template / "config.yaml")
        env = {"PATH": path_of(bin_), "COOKIECUTTER_CONFIG": config}
        return fork.run(*words, cwd=here, ok=False, **env)

    return command


@pytest.mark.parametrize(
    "name, made",
    [
        ("Iris Flowers", "iris-flowers/iris_flowers.txt"),
        ("Żółte Kwiaty", "zolte-kwiaty/zolte_kwiaty.txt"),
        ("中文", "zhong-wen/zhong_wen.txt"),
    ],
    ids=ascii,
)
def test_kedro_new_makes_a_project(kedro_new, here, name, made):
    done = kedro_new("--name", name, "--telemetry", "no")
    assert done.returncode == 0, done.stderr
    assert (here / made).read_text(encoding="utf-8") == name


@pytest.mark.parametrize(
    "answers, words",
    [
        ({"project_name": "MLflow"}, LIBRARY),
        ({"project_name": "𐌰𐌱"}, "it gives no ASCII names"),
        (GOOD | {"repo_name": "../iris"}, f"as repo_name: it {SHAPE}"),
        (GOOD | {"repo_name": "kept", "python_package": "mlflow"}, LIBRARY),
    ],
    ids=ascii,
)
def test_kedro_new_says_why_a_name_is_refused_and_nothing_else(
    kedro_new, template, here, answers, words
):
    options = ["--name", answers["project_name"]]
    if len(answers) > 1:
        config = template / "answers.yml"
        config.write_text(yaml.safe_dump(answers), encoding="utf-8")
        options = ["--config", str(config)]
    before = files_and_folders(here.parent)
    done = kedro_new(*options)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert words in line
    assert helpful(line)
    assert files_and_folders(here.parent) == before


def made_files(project: Path) -> dict[str, bytes]:
    """Return the contents of a project's files by their path in it."""
    contents = files_and_folders(project)
    return {name: text for name, text in contents.items() if text is not None}


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
    expected = made_files(generated)
    # Kedro's own record of the answer to --telemetry.
    if way == "cookiecutter":
        expected.pop(".telemetry")
    assert made_files(made) == expected
