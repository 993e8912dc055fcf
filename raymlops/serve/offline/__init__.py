"""Predictions for whole tables, without a server."""

from raymlops.serve.offline.predicting import Predicted, parts_for, predict_parquet

__all__ = ["Predicted", "parts_for", "predict_parquet"]
