"""Bodies to ask a model with, from the examples in its own OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson

from raymlops.errors import RequestError
from raymlops.serve.bench.load import Target


def example_bodies(url: str, *, num_rows: int, api_key: str | None = None) -> Target:
    """What to send to the model at `url`, such as http://127.0.0.1:8000/v2/models/flights.

    Raises:
        RequestError: no model answers there.
    """
    url = url.rstrip("/")
    path = urlsplit(url).path
    headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
    try:
        response = httpx.get(f"{url}/openapi.json", headers=headers, trust_env=False, timeout=10.0)
    except httpx.TransportError as error:
        raise RequestError(503, f"{url} cannot be reached: {error}") from error
    if response.status_code != 200:
        raise RequestError(response.status_code, f"{url}: {response.text[:200]}")
    document = response.json()
    operation = document["paths"].get(f"{path}/infer", {}).get("post")
    if operation is None:
        raise RequestError(
            404, f"{url} describes no {path}/infer; name a model: http://HOST:PORT/v2/models/MODEL"
        )
    example = operation["requestBody"]["content"]["application/json"]["example"]
    bodies = tuple(
        orjson.dumps({"inputs": [_rows(tensor, first, num_rows) for tensor in example["inputs"]]})
        for first in range(len(example["inputs"][0]["data"]))
    )
    return Target(url=f"{url}/infer", bodies=bodies, headers=headers)


def _rows(tensor: Mapping[str, Any], first: int, num_rows: int) -> dict[str, Any]:
    """The tensor with `num_rows` rows, which begin with row `first` of the example."""
    data = tensor["data"]
    rows = [data[(first + row) % len(data)] for row in range(num_rows)]
    return {**tensor, "shape": [num_rows, *tensor["shape"][1:]], "data": rows}
