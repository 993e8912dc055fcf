"""Which request this is, before any protocol has read it."""

from __future__ import annotations

from hashlib import blake2b

from raymlops.serve.protocols.documents import load, text
from raymlops.serve.protocols.open_inference.binary import split_binary
from raymlops.serve.web import Request
from raymlops.serve.web.inflation import inflate

_INFER, _PREDICT = "/infer", "/predict"
_INFERRING = (_INFER, _PREDICT, ":predict", ":classify", ":regress")
_JSON_LENGTH = "inference-header-content-length"


def request_id(request: Request, *, max_body_bytes: int) -> str | None:
    """The id a request has by its header, or in its body, where protocols have it there; None
    where it has none.

    Raises:
        RequestError: the body cannot be read, or its id is no text.
    """
    named: object = request.headers.get("x-request-id")
    if not named and request.path.endswith((_INFER, _PREDICT)):
        document, _ = load(_document(request, max_body_bytes))
        named = document.get("id") if isinstance(document, dict) else None
    return None if named in (None, "") else text(named, "id")


def infers(path: str) -> bool:
    """Whether what is posted there is a request to infer, in any of the protocols."""
    return path.endswith(_INFERRING)


def what_is_asked(request: Request) -> str:
    """A digest that tells what a request asks from what others do."""
    return blake2b(request.path.encode() + b"\0" + request.body, digest_size=16).hexdigest()


def _document(request: Request, max_body_bytes: int) -> bytes | memoryview:
    """The JSON of the body: inflated, and without the binary tensors behind it."""
    body, encoding = request.body, request.headers.get("content-encoding")
    if encoding is not None and body:
        body = inflate(body, encoding, max_bytes=max_body_bytes)
    length = request.headers.get(_JSON_LENGTH)
    if length is None or not request.path.endswith(_INFER):
        return body
    return split_binary(body, length)[0]
