"""A request to infer as plain records: [{"carrier": "UA", "dep_hour": 7}, ...]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raymlops.data import Column
from raymlops.errors import RequestError
from raymlops.serve.form import Form
from raymlops.serve.inference import Result
from raymlops.serve.protocols.base import BaseAsk
from raymlops.serve.protocols.documents import about, kind_of, load, mapping, sequence, shown
from raymlops.serve.protocols.replies import answered, plain_outputs, records
from raymlops.serve.protocols.values import columns_of_records
from raymlops.serve.web import Request, Response

_MEMBERS = ("id", "parameters", "records")


def parse_records(request: Request, *, version: str | None) -> RecordsAsk:
    """A list of records, or an object whose member `records` is one, beside `id` and
    `parameters`.

    Raises:
        RequestError: 400, naming the member at fault.
    """
    document, is_strict = load(request.body)
    name = request.headers.get("x-request-id")
    if isinstance(document, list):
        return RecordsAsk(about(name, {}), version, document, is_strict=is_strict)
    if not isinstance(document, dict):
        raise RequestError(400, f"the body is {kind_of(document)}, not a list of records")
    for member in document:
        if member not in _MEMBERS:
            raise RequestError(
                400, f"the body has a member {shown(member)}; it takes {', '.join(_MEMBERS)}"
            )
    parameters = mapping(document.get("parameters", {}), "parameters")
    return RecordsAsk(
        about(document.get("id", name), parameters),
        version,
        sequence(document.get("records"), "records"),
        is_strict=is_strict,
    )


class RecordsAsk(BaseAsk):
    rows: list[Any]
    is_strict: bool

    def columns(self, form: Form) -> Mapping[str, Column]:
        return columns_of_records(self.rows, form, is_strict=self.is_strict)

    def encode(self, result: Result) -> Response:
        document = {
            "id": self.about.id,
            "model": result.model,
            "version": result.version,
            "arm": result.arm,
            "predictions": records(plain_outputs(result)),
        }
        return answered(self.about.id, result, document)
