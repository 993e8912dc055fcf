"""The routes that take plain records."""

from __future__ import annotations

from raymlops.serve.inference import Inference
from raymlops.serve.protocols.records.ask import RecordsAsk, parse_records
from raymlops.serve.web import Reply, Request, Response, Routes

PATHS = (
    "/predict",
    "/v2/models/{model}/predict",
    "/v2/models/{model}/versions/{version}/predict",
)


def register(routes: Routes, inference: Inference) -> None:
    def predict(request: Request, reply: Reply) -> None:
        inference.check_model(request.params.get("model", inference.model))
        request.on_gone = inference.infer(request, reply, parse=_parse, refuse=Response.refusal)

    for path in PATHS:
        routes.add("POST", path, predict)


def _parse(request: Request) -> RecordsAsk:
    return parse_records(request, version=request.params.get("version"))
