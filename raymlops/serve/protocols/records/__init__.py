"""Plain records in, predictions out: POST /predict."""

from raymlops.serve.protocols.records.rest import register

__all__ = ["register"]
