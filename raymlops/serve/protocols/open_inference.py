"""The Open Inference Protocol below /v2/models/{model}."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from raymlops.data import Columns
from raymlops.errors import RequestError
from raymlops.models import Signature
from raymlops.serve import protocol
from raymlops.serve.arms import LoadedVersion
from raymlops.serve.inference import Inference, Result
from raymlops.serve.web import Reply, Request, Response, Routes


def register(routes: Routes, inference: Inference) -> None:
    own = _OpenInference(inference)
    model = "/v2/models/{model}"
    version = model + "/versions/{version}"
    routes.add("POST", f"{model}/infer", own.infer)
    routes.add("POST", f"{version}/infer", own.infer)
    for path in (model, version):
        routes.add("GET", path, own.describe)
        routes.add("GET", f"{path}/ready", own.is_ready)


@dataclass(frozen=True, slots=True)
class _Ask:
    """A request in JSON."""

    request: protocol.InferRequest
    version: str | None

    @property
    def id(self) -> str:
        return self.request.id

    @property
    def key(self) -> str:
        return self.request.key

    @property
    def event_time(self) -> datetime:
        return self.request.event_time

    def columns(self, signature: Signature) -> Columns:
        return protocol.read_columns(self.request, signature)

    def encode(self, result: Result) -> Response:
        body = protocol.encode_infer(
            self.request,
            result.outputs,
            model=result.model,
            version=result.version,
            arm=result.arm,
            signature=result.signature,
        )
        return Response(200, body)


class _OpenInference:
    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def infer(self, request: Request, reply: Reply) -> None:
        self._check_model(request)

        def parse(now: datetime) -> _Ask:
            parsed = protocol.parse_infer(request.body, now=now)
            return _Ask(parsed, request.params.get("version"))

        request.on_gone = self._inference.infer(parse, reply, refuse=Response.refusal)

    def describe(self, request: Request, reply: Reply) -> None:
        loaded = self._loaded(request)
        named = "version" in request.params
        versions = (loaded.version,) if named else self._inference.arms.versions
        body = protocol.encode_metadata(self._inference.model, versions, loaded.signature)
        reply(Response(200, body))

    def is_ready(self, request: Request, reply: Reply) -> None:
        self._loaded(request)
        reply(Response(200, protocol.encode_ready(self._inference.model)))

    def _loaded(self, request: Request) -> LoadedVersion:
        self._check_model(request)
        arms, version = self._inference.arms, request.params.get("version")
        return (arms.of_key("") if version is None else arms.of_version(version))[1]

    def _check_model(self, request: Request) -> None:
        model = request.params["model"]
        if model != self._inference.model:
            raise RequestError(404, f"no model '{model}' is deployed here")
