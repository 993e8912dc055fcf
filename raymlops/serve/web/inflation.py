"""Bodies that come compressed, inflated to no more than a body may be."""

from __future__ import annotations

import zlib

from raymlops.errors import RequestError
from raymlops.serve.web import Handler, Refused, Reply, Request, Response, Sorting

# zlib's windows: of gzip alone, and of zlib's own format, which HTTP calls deflate.
_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class Inflating(Sorting):
    """`handler` for requests whose bodies are compressed, too; `refused` is told of those that
    cannot be inflated."""

    def __init__(self, handler: Handler, *, max_bytes: int, refused: Refused) -> None:
        self._handler = handler
        self._max_bytes = max_bytes
        self._refused = refused

    def sort(self, head: Request) -> Handler:
        return self._inflate if "content-encoding" in head.headers else self._handler

    def _inflate(self, request: Request, reply: Reply) -> None:
        encoding = request.headers["content-encoding"]
        if request.body:
            try:
                request.body = inflate(request.body, encoding, max_bytes=self._max_bytes)
            except RequestError as error:
                refusal = Response.refusal(error)
                reply(refusal)
                self._refused(request, refusal)
                return
        self._handler(request, reply)


def inflate(body: bytes, encoding: str, *, max_bytes: int) -> bytes:
    """`body` before it was encoded; never more than `max_bytes` of it are held.

    Raises:
        RequestError: 415 for an unknown encoding, 400 for a broken body, 413 for a large one.
    """
    name = encoding.strip().lower()
    if name == "identity":
        return body
    if name not in _WINDOWS:
        raise RequestError(
            415, f"Content-Encoding is {encoding[:40]!r}; gzip, deflate and identity are taken"
        )
    inflater = zlib.decompressobj(_WINDOWS[name])
    try:
        inflated = inflater.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise RequestError(400, f"the body is not {name}: {error}") from error
    if len(inflated) > max_bytes:
        raise RequestError(413, f"the body inflates to more than {max_bytes} bytes")
    if not inflater.eof:
        raise RequestError(400, f"the body is not {name}: it ends too early")
    if inflater.unused_data:
        raise RequestError(400, f"{len(inflater.unused_data)} bytes follow the {name} body")
    return inflated
