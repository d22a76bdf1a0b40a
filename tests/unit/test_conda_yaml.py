"""``conda.yaml``, from which ``mlflow run`` builds an environment."""

import platform

import rattler
import yaml
from packaging.requirements import Requirement


def test_conda_reads_every_line_of_conda_yaml(generated):
    environment = yaml.safe_load((generated / "conda.yaml").read_text("utf-8"))
    assert environment["channels"] == ["conda-forge"]
    *names, pip = environment["dependencies"]
    python, installer = (rattler.MatchSpec(name, strict=True) for name in names)
    assert python.name.normalized == "python"
    assert str(python.version).removesuffix(".*") == platform.python_version()
    assert installer.name.normalized == "pip"  # or conda complains at length
    assert list(pip) == ["pip"]
    for line in pip["pip"]:
        assert Requirement(line).specifier, line  # and not `-r`
