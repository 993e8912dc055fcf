"""The routes of TensorFlow Serving's REST API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from raymlops.serve.inference import Ask, Inference
from raymlops.serve.protocols.tensorflow_serving import describe
from raymlops.serve.protocols.tensorflow_serving.ask import (
    parse_classify,
    parse_predict,
    parse_regress,
)
from raymlops.serve.versions.loaded import LoadedVersion
from raymlops.serve.web import Reply, Request, Response, Routes

Parse = Callable[[Request, str | None], Ask[Response]]

_VERBS: Mapping[str, Parse] = {
    "predict": parse_predict,
    "classify": parse_classify,
    "regress": parse_regress,
}


def register(routes: Routes, inference: Inference) -> None:
    own = _TensorflowServing(inference)
    model = "/v1/models/{model}"
    for path in (model, f"{model}/versions/{{version}}", f"{model}/labels/{{label}}"):
        for verb, parse in _VERBS.items():
            routes.add("POST", f"{path}:{verb}", own.asked(parse))
        routes.add("GET", f"{path}/metadata", own.metadata)
        routes.add("GET", path, own.status)


class _TensorflowServing:
    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def asked(self, parse: Parse) -> Callable[[Request, Reply], None]:
        def infer(request: Request, reply: Reply) -> None:
            version = self._version(request.params)

            def read(asked: Request) -> Ask[Response]:
                return parse(asked, version)

            request.on_gone = self._inference.infer(
                request, reply, parse=read, refuse=Response.refusal
            )

        return infer

    def status(self, request: Request, reply: Reply) -> None:
        version = self._loaded(request.params).version
        arms = self._inference.arms
        is_one = len(request.params) > 1
        reply(_json(describe.status((version,) if is_one else arms.versions)))

    def metadata(self, request: Request, reply: Reply) -> None:
        loaded = self._loaded(request.params)
        reply(_json(describe.metadata(self._inference.model, loaded.version, loaded.signature)))

    def _loaded(self, params: Mapping[str, str]) -> LoadedVersion:
        version, arms = self._version(params), self._inference.arms
        return (arms.of_key("") if version is None else arms.of_version(version))[1]

    def _version(self, params: Mapping[str, str]) -> str | None:
        """The version that the path names, itself or by the arm that has its label."""
        self._inference.check_model(params["model"])
        if "label" in params:
            return self._inference.arms.version_of(params["label"])
        return params.get("version")


def _json(document: Any) -> Response:
    return Response(200, orjson.dumps(document))
