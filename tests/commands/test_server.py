"""``kedro server``: requests, their answers, and the runs that they make."""

import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from runs import free_port, path_of, recorded, serving


def post(url: str, body: dict) -> tuple[int, dict]:
    """Send a request to run a pipeline; return the status and the answer."""
    kind = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/run", json.dumps(body).encode(), kind)
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def params(strength: float) -> dict:
    return {"params": {"model_options": {"C": strength}}}


def test_mistakes_among_requests_harm_nobody(project_with_store, bin_):
    project, port = project_with_store, free_port()
    words = (bin_ / "kedro", "server", "start", "--port", port)
    env = {"PATH": path_of(bin_), "BEHAVIOUR": "", "COLUMNS": "300"}
    log = project.parent / "server.log"
    with serving(*words, port=port, log=log, cwd=project, **env) as (url, process):
        bodies = [params(0.5), params(-1.0), params(2.0)]  # at once
        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(lambda body: post(url, body), bodies))
        assert [status for status, _ in answers] == [200] * 3
        good, bad, other = (answer for _, answer in answers)
        assert [good["status"], other["status"]] == ["success", "success"]
        assert bad["status"] == "failure"
        assert bad["error"]["type"] == "InvalidParameterError"
        assert "'C' parameter of LogisticRegression" in bad["error"]["message"]
        # Requests of the same millisecond have the same id of Kedro's.
        found = recorded(project)
        strengths = [float(run.params["model_options.C"]) for run in found]
        ids = [run.tags["kedro.run_id"] for run in found]
        assert set(zip(ids, strengths, strict=True)) == {
            (answer["run_id"], body["params"]["model_options"]["C"])
            for (_, answer), body in zip(answers, bodies, strict=True)
        }
        ended = dict(zip(strengths, (run.status for run in found), strict=True))
        assert ended == {0.5: "FINISHED", -1.0: "FAILED", 2.0: "FINISHED"}
        (failed,) = (run for run in found if run.status == "FAILED")
        assert failed.tags["failure.node"] == "train_model"

        status, answer = post(url, {"parameters": {}})
        assert status == 422 and answer["detail"][0]["loc"] == ["body", "parameters"]
        status, answer = post(url, {"params": {"model_option": {"C": 1.0}}})
        assert (status, answer["status"]) == (200, "failure")
        assert "Did you mean model_options?" in answer["error"]["message"]
        status, answer = post(url, {"pipeline_names": ["nonsense"]})
        assert (status, answer["status"]) == (200, "failure")
        assert len(recorded(project)) == 3  # what was refused has made no run

        part = {"pipeline_names": ["data_engineering"], "runner": "ThreadRunner"}
        status, answer = post(url, part)
        assert (status, answer["status"]) == (200, "success")
        assert process.poll() is None
    *_, last = recorded(project)
    assert last.tags["kedro.runner"] == "ThreadRunner"
    assert last.tags["kedro.runner_params"].startswith("not recorded")
