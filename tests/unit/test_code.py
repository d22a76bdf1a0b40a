"""``tracking.code``: what repeats a run: options, changes to the code, packages."""

import hashlib
import json
import os
import re
import sys
from pathlib import Path

import click
import mlflow
import pytest
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner, ThreadRunner
from runs import PACKAGE, git, recorded

PART = ["data_engineering"]


@pytest.fixture
def repository(tmp_path) -> Path:
    """Return a small project in git."""
    folder = tmp_path / "project"
    (folder / "conf" / "local").mkdir(parents=True)
    (folder / "code.py").write_text("a = 1\n")
    (folder / ".gitignore").write_text("*.db\n")
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=first")
    return folder


def files_of(changes: bytes) -> list[str]:
    """Return the files that a diff names."""
    return re.findall(r"^diff --git a/(\S+) ", changes.decode(), re.MULTILINE)


def test_what_tracking_writes_is_no_change(tracking, repository):
    """Also where .gitignore is that of another project."""
    (repository / ".gitignore").write_text("")
    git(repository, "commit", "--quiet", "--all", "--message=nothing is ignored")
    written = ("mlflow.db", "mlflow.db.lock", "mlflow.db-journal", "mlruns/1/a.txt")
    for name in (*written, ".runs/1.db", ".locks/a.lock", "data/out/.locks/b.json"):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text("written by tracking")
    assert tracking.code.git_state(repository)["git.dirty"] == "false"
    assert tracking.code.uncommitted_changes(repository)[0] == b""
    (repository / "data" / "out" / "mine.csv").write_text("a\n1\n")
    assert tracking.code.git_state(repository)["git.dirty"] == "true"
    changes, _ = tracking.code.uncommitted_changes(repository)
    assert files_of(changes) == ["data/out/mine.csv"]


def test_a_run_knows_what_repeats_it(trained_project, session_run):
    project = trained_project
    git(project, "remote", "add", "origin", "https://me:secret@host/team/iris.git")
    git(project, "checkout", "--quiet", "-b", "topic")
    parameters = project / "conf" / "base" / "parameters.yml"
    parameters.write_text(parameters.read_text() + "# changed\n")
    (project / "new.py").write_text("new = 1\n")
    before = git(project, "status", "--porcelain"), git(project, "count-objects", "-v")
    given = {"split_options": {"test_size": 0.3}, "api_key": "hunter2"}
    options = {"pipeline_names": PART, "runner": ThreadRunner()}
    session_run(folder=project, runtime_params=given, **options)
    _, one = recorded(project)
    assert one.tags["mlflow.source.git.branch"] == "topic"
    assert one.tags["mlflow.source.git.repoURL"] == "https://***@host/team/iris.git"
    assert one.tags["git.dirty"] == "true"
    assert one.tags["kedro.command"] == (
        "kedro run --env=local --runner=ThreadRunner --pipelines=data_engineering "
        "'--params=split_options.test_size=0.3,api_key=***'"
    )
    folder = project / "mlruns" / PACKAGE / one.id / "artifacts" / "environment"
    changes = (folder / "code.diff").read_bytes()
    assert files_of(changes) == ["conf/base/parameters.yml", "new.py"]
    written = json.loads((folder / "run.json").read_text())
    assert written["run"]["params"]["split_options"] == {"test_size": 0.3}
    assert list(written["inputs"]) == ["data/01_raw/iris.csv"]
    everything = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"hunter2" not in everything + json.dumps(one.tags).encode()
    assert before == (
        git(project, "status", "--porcelain"),
        git(project, "count-objects", "-v"),
    )
    packages = (folder / "packages.txt").read_text()
    assert f"mlflow=={mlflow.__version__}\n" in packages


def test_a_run_without_changes_has_no_diff(trained_project):
    (one,) = recorded(trained_project)
    assert one.tags["git.dirty"] == "false" and "git.diff" not in one.tags
    kept = {"run.json", "packages.txt"}
    found = {Path(name).name for name in one.artifacts if "environment/" in name}
    assert found == kept


# Changes to the code


def test_changed_and_new_files_are_in_the_diff(tracking, repository):
    (repository / "code.py").write_text("a = 2\n")
    (repository / "new.py").write_text("new = 1\n")
    (repository / "picture.bin").write_bytes(bytes(range(256)))
    (repository / "link").symlink_to("new.py")
    changes, digest = tracking.code.uncommitted_changes(repository)
    assert files_of(changes) == ["code.py", "link", "new.py", "picture.bin"]
    assert re.fullmatch("[0-9a-f]{32}", digest)
    (repository / "code.py").write_text("a = 1\n")
    for name in ("link", "new.py", "picture.bin"):
        (repository / name).unlink()
    assert git(repository, "status", "--porcelain") == ""
    (patch := repository.parent / "patch").write_bytes(changes)
    git(repository, "apply", str(patch))
    assert (repository / "code.py").read_text() == "a = 2\n"
    assert (repository / "picture.bin").read_bytes() == bytes(range(256))
    assert os.readlink(repository / "link") == "new.py"


def test_what_is_ones_own_is_not_in_the_diff(tracking, repository):
    (repository / "ignored.db").write_text("ignored")
    for name in ("conf/local/note.yml", "credentials.yml", "conf/credentials_a.yml"):
        (repository / name).write_text("a: hunter2\n")
        git(repository, "add", "--force", name)
    (repository / "conf" / "local" / "untracked.yml").write_text("a: hunter2\n")
    (repository / "conf" / "credentials_b.yml").write_text("a: hunter2\n")
    before = git(repository, "status", "--porcelain")
    assert tracking.code.uncommitted_changes(repository)[0] == b""
    assert git(repository, "status", "--porcelain") == before


def test_the_diff_is_of_the_projects_folder(tracking, repository):
    inner = repository / "inner" / "conf" / "local"
    inner.mkdir(parents=True)
    (repository / "code.py").write_text("a = 2\n")
    (repository / "beside.py").touch()
    (repository / "inner" / "new.py").write_text("new = 1\n")
    (inner / "note.yml").write_text("a: hunter2\n")
    changes, _ = tracking.code.uncommitted_changes(repository / "inner")
    assert files_of(changes) == ["inner/new.py"]


def test_the_users_settings_of_git_do_not_change_the_diff(tracking, repository):
    (repository / "code.py").write_text("a = 2\n")
    (repository / "new.py").write_text("new = 1\n")
    expected = tracking.code.uncommitted_changes(repository)
    for name, value in {
        "diff.noprefix": "true",
        "diff.external": "false",
        "color.diff": "always",
        "diff.renames": "copies",
    }.items():
        git(repository, "config", name, value)
    assert tracking.code.uncommitted_changes(repository) == expected


@pytest.mark.parametrize("known_to_git", [True, False])
def test_large_changes_are_left_out(tracking, repository, known_to_git):
    (repository / "large.txt").write_text("0123456\n" * 750_000)
    if known_to_git:
        git(repository, "add", "large.txt")
    assert tracking.code.uncommitted_changes(repository) == (
        b"",
        "left out: it is over 5 MB",
    )


def test_credentials_in_the_changes_are_masked(tracking, repository):
    (repository / "code.py").write_text("URI = 'postgresql://me:hunter2@host/db'\n")
    changes, said = tracking.code.uncommitted_changes(repository)
    assert said == "masked: it holds what looks like credentials"
    assert b"hunter2" not in changes and b"://***@host/db" in changes


def test_changes_in_any_encoding_are_kept(tracking, repository):
    (repository / "code.py").write_bytes("# café\n".encode("latin-1"))
    changes, digest = tracking.code.uncommitted_changes(repository)
    assert "+# café".encode("latin-1") in changes and len(digest) == 32


# Options


def options_of(tracking, files=None, **changes):
    """Return the options of a run with these run parameters."""
    names = ("tags", "node_names", "from_nodes", "to_nodes", "from_inputs")
    names += ("to_outputs", "namespaces", "load_versions", "runtime_params")
    given = dict.fromkeys([*names, "pipeline_names"]) | {"runner": SequentialRunner()}
    given |= {"env": "local", "conf_source": "/a/conf", "project_path": "/a"}
    return tracking.provenance.run_options(given | changes, files or {})


def test_a_plain_run_has_few_options(tracking):
    assert options_of(tracking) == {"env": "local", "runner": "SequentialRunner"}


def test_options_are_those_of_the_command(tracking):
    found = options_of(
        tracking,
        pipeline_names=["a", "b"],
        tags=["x", "y"],
        node_names=["n"],
        namespaces=["north"],
        to_outputs=["out"],
        runtime_params={"model": {"C": 0.5, "password": "hunter2"}, "note": "a b"},
        runner=ThreadRunner(),
    )
    assert found.pop("runner") == "ThreadRunner"
    assert found == {
        "env": "local",
        "pipelines": "a,b",
        "tags": "x,y",
        "node_names": "n",
        "namespaces": "north",
        "to_outputs": "out",
        "params": {"model": {"C": 0.5, "password": "***"}, "note": "a b"},
    }
    assert tracking.provenance.command_line(found) == (
        "kedro run --env=local --tags=x,y --nodes=n "
        "--to-outputs=out --namespaces=north --pipelines=a,b "
        "'--params=model.C=0.5,model.password=***,note=a b'"
    )


def test_versioned_inputs_are_named_as_they_were_loaded(tracking, module, tmp_path):
    file = module("tracking.catalog_files").DataFile
    path = tmp_path / "name" / "2026" / "name"
    files = {name: file(path, True) for name in ("one", "two")}
    files |= {"plain": file(tmp_path / "plain", False), "table": None}
    found = options_of(tracking, files, load_versions={"two": "2025"})
    assert found["load_versions"] == "one:2026,two:2025"


def test_secrets_in_addresses_are_masked(tracking):
    given = {"uri": "http://me:hunter2@host", "when": Path("a")}
    found = options_of(tracking, runtime_params=given)
    assert found["params"] == {"uri": "http://***@host", "when": "a"}


def typed(**params) -> click.Context:
    """Return the context of a command that was typed with these parameters."""
    context = click.Context(click.Command("run"))
    context.params = params
    return context


def reproduced(tracking, project, conf_source="", **changes):
    """Return the tags of a run, its options, and its inputs."""
    names = ("tags", "node_names", "from_nodes", "to_nodes", "from_inputs")
    given = dict.fromkeys([*names, "to_outputs", "pipeline_names", "runtime_params"])
    given |= {"env": "local", "conf_source": conf_source or f"{project}/conf"}
    given |= {"project_path": str(project)}
    given |= {"runner": "<kedro.runner.ThreadRunner object at 0x7f>"} | changes
    tags, artifacts = tracking.provenance.reproduction(given, {}, dirty=False)
    about = json.loads(artifacts["run.json"])
    return tags, about["run"], about["inputs"]


def test_arguments_of_the_runner_are_those_that_were_typed(tracking, project):
    arguments = {"max_workers": 2, "password": "hunter2"}
    with typed(runner_params=arguments, is_async=True):
        tags, options, _ = reproduced(tracking, project)
    found = {"max_workers": 2, "password": "***", "is_async": True}
    assert options["runner_params"] == found
    assert (
        "--runner-params=max_workers=2,password=***,is_async=True"
        in (tags["kedro.command"])
    )
    with typed(runner_params={}, is_async=False):
        tags, options, _ = reproduced(tracking, project)
    assert "runner_params" not in options and "kedro.runner_params" not in tags


def test_a_run_says_that_the_arguments_of_its_runner_are_not_known(tracking, project):
    said = "not recorded: only `kedro run` tells them"
    assert reproduced(tracking, project)[0]["kedro.runner_params"] == said
    with typed(conf_source="x"):  # of another command, such as `kedro server start`
        assert reproduced(tracking, project)[0]["kedro.runner_params"] == said
    for runner in ("None", "<kedro.runner.SequentialRunner object at 0x7f>"):
        tags, *_ = reproduced(tracking, project, runner=runner)
        assert "kedro.runner_params" not in tags


def test_another_folder_of_configuration_is_recorded(tracking, project):
    for usual in ("", str(project / "conf")):
        tags, options, _ = reproduced(tracking, project, usual)
        assert "conf_source" not in options and "kedro.conf_source" not in tags
    tags, options, inputs = reproduced(tracking, project, f"{project}/other/conf")
    assert tags["kedro.conf_source"] == options["conf_source"] == "other/conf"
    assert "--conf-source=other/conf" in tags["kedro.command"] and inputs == {}
    _, options, _ = reproduced(tracking, project, "s3://me:hunter2@bucket/conf")
    assert options["conf_source"] == "s3://***@bucket/conf"


def test_an_archive_of_configuration_is_recorded_with_its_digest(tracking, project):
    (project / "conf.tar.gz").write_text("packed")
    _, options, inputs = reproduced(tracking, project, f"{project}/conf.tar.gz")
    assert options["conf_source"] == "conf.tar.gz"
    assert inputs == {"conf.tar.gz": hashlib.md5(b"packed").hexdigest()}


# Packages


def install(site: Path, name: str, version: str, **direct_url) -> None:
    """Make a package look installed."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (folder / "METADATA").write_text(text)
    if direct_url:
        (folder / "direct_url.json").write_text(json.dumps(direct_url))


def test_packages_are_told_as_pip_takes_them(tracking, tmp_path, monkeypatch):
    project, site, other = tmp_path / "project", tmp_path / "a", tmp_path / "b"
    install(site, "Wheel-A", "1.0")
    install(site, "from-url", "3.0", url="https://host/x.whl")
    install(site, "from-folder", "4.0", url=(tmp_path / "elsewhere").as_uri())
    install(site, "ours", "0.1", url=f"{project.as_uri()}/")
    install(other, "wheel-a", "0.9")  # behind the first on the path
    monkeypatch.setattr(sys, "path", [str(site), str(other)])
    first, *lines = tracking.code.installed_packages(project).splitlines()
    assert re.fullmatch(r"# Python 3\.\d+\.\d+\S*", first)
    assert lines == [
        "# from-folder==4.0 came from a folder or file of that machine",
        "Wheel-A==1.0",
        "from-url @ https://host/x.whl",
    ]


@pytest.mark.parametrize(
    "url, shown",
    [
        ("https://host/r.git", "https://host/r.git"),
        ("https://me:hunter2@host/r.git", "https://***@host/r.git"),
    ],
)
def test_a_package_from_git_is_told_by_its_commit(
    tracking, tmp_path, monkeypatch, url, shown
):
    made = {"url": url, "vcs_info": {"vcs": "git", "commit_id": "abc"}}
    install(tmp_path / "site", "from-git", "2.0", **made)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site")])
    line = tracking.code.installed_packages(tmp_path).splitlines()[1]
    assert line == f"from-git @ git+{shown}@abc"


def test_the_password_of_a_package_from_git_is_not_told(
    tracking, tmp_path, monkeypatch
):
    made = {"url": "https://me:hunter2@host/r.git"}
    made |= {"vcs_info": {"vcs": "git", "commit_id": "abc"}}
    install(tmp_path / "site", "from-git", "2.0", **made)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site")])
    assert "hunter2" not in tracking.code.installed_packages(tmp_path)


# A run that repeats another


def test_the_tags_of_a_replay_are_known(tracking, project):
    mlflow.set_tracking_uri(f"sqlite:///{project}/mlflow.db")
    assert tracking.provenance.replay_tags() == {}
    with mlflow.start_run():
        assert tracking.provenance.replay_tags() == {}
    with mlflow.start_run(tags={"replay.of": "0" * 32, "model.id": "m-1"}):
        assert tracking.provenance.replay_tags()["model.id"] == "m-1"
    with mlflow.start_run(tags={"variation.of": "0" * 32, "model.id": "m-1"}):
        assert tracking.provenance.replay_tags() == {}  # it may promote its model
        assert tracking.provenance.replay_tags(varied=True)["model.id"] == "m-1"


def test_outside_of_git_nothing_differs(session_run, runs_of):
    session_run(Pipeline([Node(lambda: 1, None, "out", name="only")]))
    (one,) = runs_of()
    assert "git.dirty" not in one.tags and "git.diff" not in one.tags
    assert "environment/code.diff" not in one.artifacts
    assert "environment/run.json" in one.artifacts


@pytest.fixture
def one_commit(tmp_path) -> Path:
    """Return a folder in git with one commit."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "file").write_text("one")
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=first")
    return folder


def test_git_state_of_a_clean_and_of_a_changed_folder(tracking, one_commit):
    head = git(one_commit, "rev-parse", "HEAD")
    clean = {"mlflow.source.git.commit": head, "mlflow.source.git.branch": "main"}
    assert tracking.code.git_state(one_commit) == clean | {"git.dirty": "false"}
    (one_commit / "new").touch()
    assert tracking.code.git_state(one_commit) == clean | {"git.dirty": "true"}


def test_git_state_names_the_remote_without_its_password(tracking, one_commit):
    git(one_commit, "remote", "add", "origin", "https://me:hidden@example.com/a.git")
    url = tracking.code.git_state(one_commit)["mlflow.source.git.repoURL"]
    assert "example.com/a.git" in url and "hidden" not in url


def test_a_detached_commit_has_no_branch(tracking, one_commit):
    git(one_commit, "checkout", "--quiet", "--detach")
    state = tracking.code.git_state(one_commit)
    assert "mlflow.source.git.branch" not in state and state["git.dirty"] == "false"


def test_a_repository_without_a_commit_has_no_state(tracking, tmp_path):
    git(tmp_path, "init", "--quiet")
    assert tracking.code.git_state(tmp_path) == {}


def test_no_git_no_state(tracking, one_commit, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert tracking.code.git_state(one_commit) == {
        "git.unavailable": "git is not installed"
    }
