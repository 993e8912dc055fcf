"""The model's HTTP interface as an OpenAPI document, and a page to try it by."""

from raymlops.serve.protocols.openapi.rest import register

__all__ = ["register"]
