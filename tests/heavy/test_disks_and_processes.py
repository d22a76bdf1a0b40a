"""A full disk, a killed launcher, two containers: the recorded status stays true."""

import os
import re
import shutil
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults import LIMIT, NEXT
from paused import STATUS_IS_PENDING, PausedRun, next_start
from runs import command, path_of, recorded, run, with_files_beside


@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("then, status", [({}, "FINISHED"), ({"RAISE": "1"}, "FAILED")])
def test_mlflow_run_is_killed_and_kedro_goes_on(
    end, then, status, pausing_project, bin_, tmp_path
):
    words, env = command("mlflow run", bin_, pausing_project)
    pipeline = PausedRun(tmp_path / "signs", *words, cwd=pausing_project, **env, **then)
    pipeline.process.send_signal(signal.Signals[end])
    pipeline.process.wait(30)
    pipeline.go_on()
    pipeline.wait_for(pipeline.all_ended)
    next_start(bin_, pausing_project)
    one, _ = recorded(pausing_project)
    assert one.status == status, pipeline.log.read_text()


@pytest.fixture
def container():
    """Return the words before a command that give it processes of its own."""
    words = ["unshare", "--pid", "--fork", "--mount-proc", "--uts"]
    if not shutil.which("unshare") or subprocess.run([*words, "true"]).returncode:
        pytest.skip("no containers (unshare): apt-get install util-linux, run as root")
    return words


def test_two_containers_with_one_name(container, pausing_project, bin_, tmp_path):
    beside = with_files_beside(pausing_project)
    words, env = command("sequential", bin_, pausing_project)
    pipeline = PausedRun(
        tmp_path / "signs", *container, *words, cwd=pausing_project, **env
    )
    other = (*container, bin_ / "kedro", "run", *beside)
    run(*other, cwd=pausing_project, **env)
    assert [one.status for one in recorded(pausing_project)] == ["RUNNING", "FINISHED"]
    os.killpg(pipeline.process.pid, signal.SIGKILL)
    pipeline.wait_for(pipeline.all_ended)
    run(*other, cwd=pausing_project, **env)
    assert [one.status for one in recorded(pausing_project)] == [
        "KILLED",
        "FINISHED",
        "FINISHED",
    ]


@contextmanager
def small_disk(folder: Path, size: str):
    """Mount a small disk at a folder; skip the test where that is not allowed."""
    folder.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if not shutil.which("mount") or subprocess.run(words).returncode:
        pytest.skip("no small disks (mount): run as root in a privileged container")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """Fill a disk but for some bytes; return the file that can be removed."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(0, file.tell() - leave))
    return filler


def test_a_node_raises_while_the_disk_is_full(pausing_project, bin_, tmp_path):
    with small_disk(tmp_path / "disk", "16m") as disk:
        project = shutil.copytree(pausing_project, disk / pausing_project.name)
        words, env = command("sequential", bin_, project)
        pipeline = PausedRun(tmp_path / "signs", *words, cwd=project, **env, RAISE="1")
        filler = fill(disk)
        pipeline.go_on()
        pipeline.wait_for(lambda: pipeline.says(f"{STATUS_IS_PENDING}|is full"))
        filler.unlink()
        assert pipeline.process.wait(LIMIT) == 1
        assert pipeline.says("ValueError: boom")
        assert recorded(project)[0].status != "FINISHED"
        next_start(bin_, project)
        assert recorded(project)[0].status == "FAILED", pipeline.log.read_text()


def test_the_artifacts_have_no_room(pausing_project, bin_, tmp_path):
    with small_disk(pausing_project / "mlruns", "1m") as disk:
        words, env = command("sequential", bin_, pausing_project)
        pipeline = PausedRun(tmp_path / "signs", *words, cwd=pausing_project, **env)
        fill(disk)
        pipeline.go_on()
        assert pipeline.process.wait(LIMIT) == 1
        (one,) = recorded(pausing_project)
        assert one.status == "FAILED" and "No space" in one.tags["failure.error"]
        assert pipeline.says("traceback.txt|its failure")


@pytest.mark.parametrize("leave", [0, 300_000], ids=["full", "nearly full"])
def test_a_disk_that_is_full_at_the_start(leave, project, bin_, tmp_path):
    with small_disk(tmp_path / "disk", "8m") as disk:
        full = shutil.copytree(project, disk / project.name)
        filler = fill(disk, leave)
        kedro = (bin_ / NEXT[0], *NEXT[1:])
        # Python itself writes half of its bytecode there, and cannot read it later.
        env = {"PATH": path_of(bin_), "PYTHONDONTWRITEBYTECODE": "1"}
        result = run(*kedro, cwd=full, ok=False, **env)
        assert result.returncode == 1
        *_, last = result.stderr.strip().splitlines()
        assert last.startswith("Error: MLflow cannot record runs")
        assert "Traceback" not in result.stderr
        assert not list((full / "data" / "02_intermediate").glob("*.parquet"))
        filler.unlink()
        result = run(*kedro, cwd=full, ok=False, PATH=path_of(bin_))
        if result.returncode:
            *_, last = result.stderr.strip().splitlines()
            (store,) = re.findall(r"move (\S+) away", last) or [pytest.fail(last)]
            Path(store).unlink()
            run(*kedro, cwd=full, PATH=path_of(bin_))
