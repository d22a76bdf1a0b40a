"""All that a training records, in one script with MLflow and without Kedro."""

from importlib import metadata

import mlflow
import pandas as pd
import skops.io
from matplotlib.figure import Figure
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from sklearn.calibration import CalibrationDisplay
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    ConfusionMatrixDisplay,
    PrecisionRecallDisplay,
    accuracy_score,
    log_loss,
    precision_recall_fscore_support,
)
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

DATA, NAME = "iris.csv", "flowers"
FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
SPLIT = {"test_size": 0.2, "random_state": 42}
OPTIONS = {"C": 1.0, "max_iter": 200}
NEEDED = ["mlflow", "pandas", "pyarrow", "scikit-learn", "skops"]


def measure(model, test):
    truth, predicted = test["species"], model.predict(test[FEATURES])
    averages = {"average": "macro", "zero_division": 0}
    found = precision_recall_fscore_support(truth, predicted, **averages)
    names = ["precision_macro", "recall_macro", "f1_macro"]
    metrics = dict(zip(names, map(float, found[:3]), strict=True))
    metrics["accuracy"] = accuracy_score(truth, predicted)
    metrics["log_loss"] = log_loss(truth, model.predict_proba(test[FEATURES]))
    return metrics


def draw(model, test):
    predicted = model.predict(test[FEATURES])
    confusion = Figure(figsize=(5, 4), layout="constrained")
    axes, truth = confusion.subplots(), test["species"]
    ConfusionMatrixDisplay.from_predictions(
        truth, predicted, ax=axes, cmap="Blues", colorbar=False
    )
    quality = Figure(figsize=(13.5, 4), layout="constrained")
    left, middle, right = quality.subplots(1, 3)
    lost = permutation_importance(model, test[FEATURES], truth, random_state=0)
    left.barh(FEATURES, lost.importances_mean, xerr=lost.importances_std)
    likely = model.predict_proba(test[FEATURES]).T
    for species, column in zip(model.classes_, likely, strict=True):
        one = (truth == species, column)
        CalibrationDisplay.from_predictions(*one, ax=right, name=species)
        PrecisionRecallDisplay.from_predictions(*one, ax=middle, name=species)
    return {"confusion_matrix": confusion, "quality": quality}


def log(model, test):
    example = test[FEATURES].head()
    options = {
        "serialization_format": "skops",
        "skops_trusted_types": skops.io.get_untrusted_types(data=skops.io.dumps(model)),
        "pip_requirements": [f"{name}=={metadata.version(name)}" for name in NEEDED],
    }
    answers = pd.Series(model.predict(example), name="species")
    return mlflow.sklearn.log_model(
        model,
        name="model",
        signature=infer_signature(example, answers),
        input_example=example,
        **options,
    )


def promote(logged, metrics, test):
    client = mlflow.MlflowClient()
    try:
        champion = mlflow.sklearn.load_model(f"models:/{NAME}@champion")
        best = metrics["accuracy"] >= measure(champion, test)["accuracy"]
    except MlflowException:
        best = True
    version = mlflow.register_model(logged.model_uri, NAME)
    alias = "champion" if best else "challenger"
    client.set_registered_model_alias(NAME, alias, version.version)
    client.set_model_version_tag(NAME, version.version, "registry.decision", alias)


mlflow.set_tracking_uri("sqlite:///mlflow.db")
mlflow.set_experiment(NAME)
with mlflow.start_run():
    iris = pd.read_csv(DATA)
    mlflow.log_input(mlflow.data.from_pandas(iris, source=DATA, name="iris"), "input")
    mlflow.log_artifact(DATA, "data")
    found = {(one.metadata["Name"], one.version) for one in metadata.distributions()}
    packages = "".join(f"{name}=={version}\n" for name, version in sorted(found))
    mlflow.log_text(packages, "environment/packages.txt")
    mlflow.log_params(SPLIT | OPTIONS)
    train, test = train_test_split(iris, stratify=iris["species"], **SPLIT)
    model = make_pipeline(StandardScaler(), LogisticRegression(**OPTIONS))
    model.fit(train[FEATURES], train["species"])
    metrics = measure(model, test)
    mlflow.log_metrics(metrics)
    for name, figure in draw(model, test).items():
        mlflow.log_figure(figure, f"figures/{name}.png")
    promote(log(model, test), metrics, test)
    print(f"Accuracy {metrics['accuracy']:.3f}")
