"""Pages of other origins: which answers their browsers let them read."""

from __future__ import annotations

import pytest

from raymlops.operate import load_settings
from raymlops.serve import ServeSettings
from raymlops.serve.deployment.placing import spec_of
from raymlops.serve.http.encode import Encoder
from raymlops.serve.http.limits import HttpLimits
from raymlops.serve.http.machine import Machine
from raymlops.serve.web import Handler, Reply, Request, Response, Routes, sorted_out
from raymlops.serve.web.cors import CorsPolicy, CrossOrigin, sharing

APP = "https://app.example.com"
PATH = "/v2/models/flights/infer"
SHARED = {
    "access-control-allow-origin": APP,
    "access-control-expose-headers": "*",
    "vary": "Origin",
}


def infer(request: Request, reply: Reply) -> None:
    reply(Response(200, b"0.5", headers=(("x-request-id", "7"),)))


def handler(*origins: str) -> Handler:
    routes = Routes()
    routes.add("POST", PATH, infer)
    return CrossOrigin(routes, CorsPolicy(origins=origins))


def ask(asked: Handler, method: str = "POST", **headers: str) -> tuple[int, dict[str, str]]:
    told: list[Response] = []
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    asked(Request(method, PATH, headers=named), told.append)
    (response,) = told
    return response.status, dict(response.headers)


def test_a_page_of_an_origin_that_is_named_reads_its_answer() -> None:
    assert ask(handler(APP), origin=APP) == (200, {"x-request-id": "7"} | SHARED)
    assert ask(handler(APP), "PUT", origin=APP) == (405, {"allow": "POST"} | SHARED)


@pytest.mark.parametrize("origin", ["https://other.example.com", f"{APP}:8443", f"{APP}.evil", ""])
def test_others_are_answered_as_ever(origin: str) -> None:
    assert ask(handler(APP), origin=origin) == (200, {"x-request-id": "7"})
    preflight = {"origin": origin, "access_control_request_method": "POST"}
    assert ask(handler(APP), "OPTIONS", **preflight) == (405, {"allow": "POST"})


@pytest.mark.parametrize("headers", [{}, {"origin": "https://other.example.com"}])
def test_a_cache_is_told_that_what_it_keeps_is_not_for_pages(headers: dict[str, str]) -> None:
    """It gave a page what it had kept of a program, which the page's browser then hid."""
    for method in ("GET", "HEAD"):
        assert ask(handler(APP), method, **headers) == (405, {"allow": "POST", "vary": "Origin"})
    assert ask(handler(APP), **headers) == (200, {"x-request-id": "7"})


def test_any_page_reads_what_is_for_all_and_none_sends_credentials() -> None:
    status, told = ask(handler("*"), origin=APP)
    assert (status, told) == (200, {"x-request-id": "7"} | SHARED)
    assert "access-control-allow-credentials" not in told


def test_a_preflight_is_told_what_may_be_sent() -> None:
    asked = {"origin": APP, "access_control_request_method": "POST"}
    permit = {
        "access-control-allow-methods": "GET, HEAD, POST, DELETE",
        "access-control-max-age": "600",
    }
    assert ask(handler(APP), "OPTIONS", **asked) == (200, permit | SHARED)
    asked["access_control_request_headers"] = "authorization,content-type"
    permit["access-control-allow-headers"] = "authorization,content-type"
    assert ask(handler(APP), "OPTIONS", **asked) == (200, permit | SHARED)


def test_no_preflight_needs_a_key_and_refusals_can_be_read() -> None:
    admit = sharing(lambda _: Response.error(401, "a key is needed"), CorsPolicy(origins=(APP,)))

    def judged(method: str, **headers: str) -> dict[str, str] | None:
        refusal = admit(Request(method, PATH, headers=headers))
        return None if refusal is None else dict(refusal.headers)

    preflight = {"access-control-request-method": "POST"}
    assert judged("OPTIONS", origin=APP, **preflight) is None
    assert judged("OPTIONS", origin="https://other.example.com", **preflight) == {}
    assert judged("OPTIONS", origin=APP) == judged("POST", origin=APP) == SHARED
    assert judged("POST") == {}
    assert sharing(lambda _: None, CorsPolicy(origins=(APP,)))(Request("POST", PATH)) is None


def test_a_request_without_an_origin_is_not_looked_at_again() -> None:
    """A server that knows its head asks the model's own handler."""
    routes = Routes()
    routes.add("POST", PATH, infer)
    head = Request("POST", PATH)
    shared = CrossOrigin(routes, CorsPolicy(origins=(APP,)))
    assert sorted_out(shared, head) is sorted_out(routes, head)


def test_a_head_that_comes_again_is_answered_by_its_origin() -> None:
    written: list[bytes] = []
    machine = Machine(
        handler(APP), written.append, lambda: None, encoder=Encoder(0.0), limits=HttpLimits()
    )
    for origin in (APP, "https://other.example.com") * 4:
        line = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\nContent-Length: 0\r\n\r\n"
        machine.feed(line.encode())
    assert [b"access-control-allow-origin" in answer for answer in written] == [True, False] * 4


@pytest.mark.parametrize(
    "origin",
    [
        "app.example.com", f"{APP}/", f"{APP}/page", "https://App.example.com", "null",
        "https://*", "https://*.example.com", f"{APP}:443", "http://localhost:80",
    ],
)  # fmt: skip
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match=r"none that a browser sends: write SCHEME://HOST"):
        CorsPolicy(origins=(origin,))


def test_replicas_are_made_with_the_origins_that_are_set() -> None:
    told = load_settings(overrides=[f"serve.cors.origins=[{APP}]"], environ={}).settings
    for settings, wanted in ((told.serve, (APP,)), (ServeSettings(), ())):
        spec = spec_of(
            "flights", settings, "sqlite://", "store", log_folder="logs", slice_by=(), copies=None
        )
        assert spec.cors.origins == wanted
