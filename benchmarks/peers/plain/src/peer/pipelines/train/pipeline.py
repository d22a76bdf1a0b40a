from kedro.pipeline import Node, Pipeline

from .nodes import predict, report_accuracy, split_data, train_model


def create_pipeline(**kwargs) -> Pipeline:
    return Pipeline(
        [
            Node(
                split_data,
                ["iris", "params:test_size", "params:random_state"],
                ["train", "test"],
            ),
            Node(train_model, ["train", "params:C", "params:max_iter"], "model"),
            Node(predict, ["model", "test"], "predictions"),
            Node(report_accuracy, ["test", "predictions"], "accuracy"),
        ]
    )
