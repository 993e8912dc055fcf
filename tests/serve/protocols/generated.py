"""Requests that schemathesis makes from the OpenAPI document, right ones and wrong ones.

python -m tests.serve.protocols.generated 10000
"""

from __future__ import annotations

import json
import sys
import warnings
from collections import Counter
from urllib.parse import unquote, urlsplit

import hypothesis
import requests
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis import GenerationMode, Response
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.serve.conftest import make_bundles
from tests.serve.protocols.conftest import InProcess

BASE = "http://server"
_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def check_operations(app: InProcess, num_cases: int) -> Counter[int]:
    """Sends about `num_cases` in all, holds each answer against the document, and returns how
    often each status was answered."""
    load_all_checks()
    document = json.loads(app.ask("GET", "/openapi.json").body)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schema = schemathesis.openapi.from_dict(document)
        operations = [found.ok() for found in schema.get_all_operations()]
    statuses: Counter[int] = Counter()
    with_body = [operation for operation in operations if operation.body]
    for operation in operations:
        share = num_cases // (2 * len(with_body)) if operation in with_body else 1
        for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:
            if mode is GenerationMode.POSITIVE or operation in with_body:
                _check(app, operation.as_strategy(generation_mode=mode), share, statuses)
    return statuses


def _check(
    app: InProcess,
    cases: hypothesis.strategies.SearchStrategy[schemathesis.Case],
    number: int,
    statuses: Counter[int],
) -> None:
    @hypothesis.settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(cases)
    def send(case: schemathesis.Case) -> None:
        response = _send(app, case)
        statuses[response.status_code] += 1
        case.validate_response(response, checks=_CHECKS)

    send()


def _send(app: InProcess, case: schemathesis.Case) -> Response:
    kwargs = case.as_transport_kwargs(base_url=BASE)
    prepared = requests.Request(**{k: v for k, v in kwargs.items() if k != "cookies"}).prepare()
    body = prepared.body or b""
    content = body.encode() if isinstance(body, str) else body
    headers = {name.lower(): str(value) for name, value in prepared.headers.items()}
    path = unquote(urlsplit(str(prepared.url)).path)
    answer = app.ask(str(prepared.method), path, content, **headers)
    return Response(
        status_code=answer.status,
        headers={"content-type": [answer.content_type]},
        content=answer.body,
        request=prepared,
        elapsed=0.0,
        verify=True,
    )


def main() -> None:
    app = InProcess(make_bundles())
    print(dict(check_operations(app, int(sys.argv[1]))))  # noqa: T201 - a script's output
    app.close()


if __name__ == "__main__":
    main()
