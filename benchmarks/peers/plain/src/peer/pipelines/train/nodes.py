from .computing import predict, report_accuracy, split_data, train_model

__all__ = ["predict", "report_accuracy", "split_data", "train_model"]
