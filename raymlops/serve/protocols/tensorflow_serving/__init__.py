"""TensorFlow Serving's REST API, below /v1/models/{model}."""

from raymlops.serve.protocols.tensorflow_serving.rest import register

__all__ = ["register"]
