"""What is at an address, for whoever opens it: its models, and where each is described."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from urllib.parse import quote

import orjson

from raymlops.serve.web import Reply, Request, Response, Routes


def register_index(routes: Routes, models: Callable[[], Iterable[str]]) -> None:
    def index(_: Request, reply: Reply) -> None:
        reply(Response(200, orjson.dumps({"models": [_entry(name) for name in sorted(models())]})))

    routes.add("GET", "/", index)


def _entry(model: str) -> dict[str, str]:
    path = f"/v2/models/{quote(model, safe='')}"
    return {"name": model, "docs": f"{path}/docs", "openapi": f"{path}/openapi.json"}
