"""Requests of all kinds, for servers that are to give the same answers.

python -m tests.serve.asking FOLDER: asks the door and Ray Serve's own proxy on a Ray of its own,
and prints their answers as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from raymlops.cluster import ClusterSettings, connect
from raymlops.serve import ServeSettings, deploy
from tests.serve.conftest import MODEL, World, make_bundles, make_world


class Asked(NamedTuple):
    method: str
    path: str
    document: Any = None


def requests_of_all_kinds(world: World) -> list[Asked]:
    model = f"/v2/models/{MODEL}"
    inputs = [
        {"name": name, "datatype": "BYTES", "shape": [2], "data": column.tolist()}
        if column.dtype == object
        else {"name": name, "datatype": "FP64", "shape": [2], "data": [1.5, 2.5]}
        for name, column in world.rows(0, 2).items()
    ]
    return [
        Asked("POST", f"{model}/infer", {"id": "same", "inputs": inputs}),
        Asked("POST", f"{model}/infer", {"inputs": inputs[1:]}),
        Asked("POST", f"{model}/versions/9.9.9/infer", {"inputs": inputs}),
        Asked("GET", model),
        Asked("GET", f"{model}/ready"),
        Asked("HEAD", f"{model}/ready"),
        Asked("PUT", f"{model}/infer", {}),
        Asked("GET", f"{model}/nothing"),
        Asked("GET", "/v2/models/nonesuch"),
        Asked("GET", "/v2"),
        Asked("GET", "/v2/health/ready"),
    ]


def ask(url: str, request: Asked) -> dict[str, Any]:
    """The answer, without what servers say of themselves."""
    with httpx.Client(base_url=url, trust_env=False) as http:
        answer = http.request(request.method, request.path, json=request.document)
    kept = {name: answer.headers.get(name) for name in ("content-type", "allow")}
    return {"status": answer.status_code, "body": answer.text, **kept}


def main() -> None:
    folder = Path(sys.argv[1])
    world = make_world(make_bundles(), folder)
    with connect(ClusterSettings(num_cpus=2), home=folder / "home"):
        where = {"ledger_url": world.ledger_url, "store_uri": world.store_uri}
        deployment = deploy(MODEL, **where, settings=ServeSettings(port=0, proxy_port=0))
        assert deployment.proxy_url is not None
        told = [
            [request, ask(deployment.url, request), ask(deployment.proxy_url, request)]
            for request in requests_of_all_kinds(world)
        ]
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
