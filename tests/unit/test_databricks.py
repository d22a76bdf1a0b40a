"""databricks.yml and conf/databricks, checked without a workspace."""

import yaml


def test_the_job_of_the_bundle_is_what_the_jobs_api_takes(generated):
    from databricks.sdk.service.jobs import JobSettings  # it takes a second

    bundle = yaml.safe_load((generated / "databricks.yml").read_text())
    for settings in bundle["resources"]["jobs"].values():
        assert JobSettings.from_dict(settings).as_dict() == settings
    settings = bundle["resources"]["jobs"]["train"]
    train, score = settings["tasks"]
    (environment,) = settings["environments"]
    assert environment["environment_key"] == train["environment_key"]
    assert score["depends_on"] == [{"task_key": train["task_key"]}]
    assert score["python_wheel_task"]["parameters"][-1] == "--pipelines=score"


def test_the_watching_job_runs_every_night_and_fails_on_a_verdict(generated):
    bundle = yaml.safe_load((generated / "databricks.yml").read_text())
    settings = bundle["resources"]["jobs"]["watch"]
    assert settings["schedule"]["quartz_cron_expression"] == "0 0 2 * * ?"
    pipelines = [
        task["python_wheel_task"]["parameters"][-2:] for task in settings["tasks"]
    ]
    assert pipelines == [
        ["--pipelines=score", "--params=drift_options.on_drift=fail"],
        ["--pipelines=monitor", "--params=monitor_options.on_worse=fail"],
    ]


def test_conf_databricks_names_datasets_and_settings_of_base(generated):
    for file in ("catalog.yml", "mlflow.yml"):
        base, there = (
            yaml.safe_load((generated / "conf" / env / file).read_text())
            for env in ("base", "databricks")
        )
        assert there.keys() <= base.keys()
    for name, entry in yaml.safe_load(
        (generated / "conf/databricks/catalog.yml").read_text()
    ).items():
        base = yaml.safe_load((generated / "conf/base/catalog.yml").read_text())[name]
        same = ("type", "load_args", "validator")
        assert [entry.get(key) for key in same] == [base.get(key) for key in same]
