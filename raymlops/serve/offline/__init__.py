"""Predictions for whole tables, without a server."""

from raymlops.serve.offline.predicting import Predicted, predict_parquet

__all__ = ["Predicted", "predict_parquet"]
