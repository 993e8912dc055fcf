"""Answers that pages of other origins may read: cross-origin resource sharing (CORS), by origin.

    page --OPTIONS, what it would like to send--> preflight: yes, for so long
         --POST--> the answer, which its browser lets it read

Never with credentials: no cookie means anything here, and a key is a header that the page sends
itself. What a browser asks before it sends one cannot carry it, so a preflight needs no key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from msgspec.structs import replace

from raymlops.serve.web import Admit, Handler, Reply, Request, Response, Sorting

# No pattern, and not the port that browsers leave out; *** is what a secret is shown as.
_NO_ORIGIN = r"http:.*:80$|https:.*:443$|.*//\*([.:]|$)"
_ORIGIN = re.compile(rf"(?!{_NO_ORIGIN})[a-z][a-z0-9+.-]*://[^\s/?#@A-Z]+")
_METHODS = "GET, HEAD, POST, DELETE"
_MAX_AGE_S = 600
_VARY = ("vary", "Origin")


@dataclass(frozen=True, kw_only=True)
class CorsPolicy:
    """Pages of these `origins`, such as https://app.example.com, may ask; `*` is any page."""

    origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for origin in self.origins:
            if origin != "*" and _ORIGIN.fullmatch(origin) is None:
                raise ValueError(
                    f"origin {origin!r} is none that a browser sends: write SCHEME://HOST[:PORT] "
                    "in lower case, without a path and without the scheme's own port, or * for any"
                )

    def lets_in(self, request: Request) -> bool:
        """Whether it comes from such a page."""
        origin = request.headers.get("origin")
        return origin is not None and (origin in self.origins or "*" in self.origins)


class CrossOrigin(Sorting):
    """`handler`, and what browsers have to be told beside its answers to pages of `policy`."""

    def __init__(self, handler: Handler, policy: CorsPolicy) -> None:
        self._handler = handler
        self._policy = policy

    def sort(self, head: Request) -> Handler:
        if self._policy.lets_in(head):
            return _permit if _is_preflight(head) else self._share
        # A cache may keep what was got without an origin, and give it to a page, which could then
        # not read it. Answers to other methods are not kept.
        return self._tell_apart if head.method in ("GET", "HEAD") else self._handler

    def _tell_apart(self, request: Request, reply: Reply) -> None:
        self._handler(request, lambda response: reply(_with(response, _VARY)))

    def _share(self, request: Request, reply: Reply) -> None:
        self._handler(request, lambda response: reply(_shared(request, response)))


def sharing(admit: Admit, policy: CorsPolicy) -> Admit:
    """As `admit`, whose refusals pages of `policy` may read, and which keeps out no preflight."""

    def judge(request: Request) -> Response | None:
        refusal = admit(request)
        if refusal is None or not policy.lets_in(request):
            return refusal
        return None if _is_preflight(request) else _shared(request, refusal)

    return judge


def _is_preflight(request: Request) -> bool:
    return request.method == "OPTIONS" and "access-control-request-method" in request.headers


def _permit(request: Request, reply: Reply) -> None:
    asked = request.headers.get("access-control-request-headers")
    permit = (
        ("access-control-allow-methods", _METHODS),
        *((("access-control-allow-headers", asked),) if asked else ()),
        ("access-control-max-age", str(_MAX_AGE_S)),
    )
    reply(_shared(request, Response(200, content_type="text/plain", headers=permit)))


def _shared(request: Request, response: Response) -> Response:
    return _with(
        response,
        ("access-control-allow-origin", request.headers["origin"]),
        ("access-control-expose-headers", "*"),
        _VARY,
    )


def _with(response: Response, *headers: tuple[str, str]) -> Response:
    return replace(response, headers=(*response.headers, *headers))
