"""The generated project's pipeline without what speaks to MLflow."""

from kedro.pipeline import Node, Pipeline
from sklearn import metrics

from ...schema import TARGET, labels
from .nodes import draw_quality, figures, predict, train_model


def report_accuracy(test, predictions):
    truth, predicted = labels(test), labels(predictions)
    probabilities = predictions.drop(columns=TARGET)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        truth, predicted, average="macro", zero_division=0
    )
    found = {
        "accuracy": metrics.accuracy_score(truth, predicted),
        "precision_macro": precision,
        "recall_macro": recall,
        "f1_macro": f1,
        "log_loss": metrics.log_loss(truth, probabilities, labels=list(probabilities)),
    }
    found = {name: float(value) for name, value in found.items()}
    return found, figures.draw_confusion_matrix(truth, predicted)


def create_pipeline(**kwargs) -> Pipeline:
    return Pipeline(
        [
            Node(train_model, ["train", "params:model_options"], "model"),
            Node(predict, ["model", "test"], "predictions"),
            Node(
                report_accuracy,
                ["test", "predictions"],
                ["metrics", "confusion_matrix"],
            ),
            Node(draw_quality, ["model", "test", "predictions"], "quality"),
        ]
    )
