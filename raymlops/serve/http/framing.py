"""What is asked of a head before its body is read."""

from __future__ import annotations

import re
from collections.abc import Mapping

import httptools

from raymlops.serve.web import Response

_VERSIONS = frozenset({"1.1", "1.0"})
# RFC 9110, 7.2: a host, or none, and a port. Two headers are one value here, with ", " between.
_HOST = re.compile(r"(\[[\w.~!$&'()*+,;=:-]*]|[\w.~!$&'()*+,;=%-]*)(:\d*)?", re.ASCII)


def refusal(version: str, headers: Mapping[str, str]) -> Response | None:
    """What a head is answered with that is not HTTP/1.1 as it is spoken here."""
    if version not in _VERSIONS:
        return Response.error(505, f"HTTP/{version} is not spoken here, HTTP/1.1 is")
    if (host := headers.get("host")) is None:
        if version == "1.1":
            return Response.error(400, "there is no Host header")
    elif _HOST.fullmatch(host.strip(" \t")) is None:
        return Response.error(400, f"the Host header is '{host[:80]}', not one host and its port")
    if (coding := headers.get("transfer-encoding")) is not None and coding.lower() != "chunked":
        return Response.error(501, f"transfer coding '{coding}' is not understood, chunked is")
    if (expected := headers.get("expect")) is not None and expected.lower() != "100-continue":
        return Response.error(417, f"'{expected}' cannot be expected here")
    return None


def without_offer(method: bytes, url: bytes, version: str, headers: Mapping[str, str]) -> bytes:
    """The head of a request as if it offered no other protocol."""
    lines = [b"%b %b HTTP/%b" % (method, url, version.encode())]
    for name, text in headers.items():
        if name != "upgrade":
            lines.append(f"{name}: {text}".encode("latin-1"))
    return b"\r\n".join([*lines, b"", b""])


def origin_form(url: bytes) -> bytes:
    """`/path?query` of `http://host/path?query`; `*` and nonsense are a path nobody has."""
    try:
        parsed = httptools.parse_url(url)
    except httptools.HttpParserInvalidURLError:
        return b"/" + url
    path = parsed.path or b"/"
    return path if parsed.query is None else path + b"?" + parsed.query
