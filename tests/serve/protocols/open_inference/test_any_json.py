"""Whatever is sent, and whichever way it is read."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from raymlops.errors import RequestError
from raymlops.serve.form import Form
from raymlops.serve.protocols.open_inference.ask import parse_infer
from raymlops.serve.web import Response
from tests.serve.protocols.open_inference.documents import FORM, SIGNATURE, read, request, tensor

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["temp", "wind", "carrier", "FP64", "BYTES", "INT8"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text()
            | st.sampled_from(["id", "parameters", "key", "event_time", "name", "shape", "data"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["temp", "wind", "carrier"]) | JSON,
        "datatype": st.sampled_from(["FP64", "BYTES", "INT8", "UINT64", "BOOL"]) | JSON,
        "shape": st.lists(st.integers(-1, 3), max_size=2) | JSON,
        "data": st.lists(SCALARS, max_size=3) | JSON,
    },
)
REQUESTS = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS, max_size=4) | JSON},
    optional={"id": JSON, "parameters": JSON, "outputs": JSON},
)


@given(
    st.binary()
    | JSON.map(lambda document: json.dumps(document).encode())
    | REQUESTS.map(lambda document: json.dumps(document).encode())
)
def test_anything_at_all_is_read_or_refused_as_the_clients_fault(body: bytes) -> None:
    try:
        SIGNATURE.check(read(body))
    except RequestError as error:
        Response.refusal(error)
        assert error.status == 400  # noqa: PT017 - a good body raises nothing, so no `raises`


def pairs(values: st.SearchStrategy[Any], name: str, *datatypes: str) -> st.SearchStrategy[Any]:
    """Tensors of two rows or nearly so."""
    data = st.lists(values, min_size=2, max_size=2) | st.lists(values, max_size=3)
    shape = st.just([2]) | st.sampled_from([[1], [2.0], [True], [2, 1], [2, 1.0], [1, 2], 2])
    return st.builds(tensor, st.just(name), data, st.sampled_from(datatypes), shape)


NUMBERS = st.floats(-101, 101) | st.integers(-101, 101) | st.sampled_from([None, True, "1", 1e300])
NEARLY_RIGHT = st.builds(
    request,
    temp=pairs(NUMBERS, "temp", "FP64", "FP64", "INT8", "FP32"),
    wind=pairs(NUMBERS, "wind", "FP64"),
    carrier=pairs(st.text(max_size=2) | st.none(), "carrier", "BYTES"),
)


def in_any_order(document: Any) -> st.SearchStrategy[Any]:
    return st.permutations(document["inputs"]).map(lambda inputs: document | {"inputs": inputs})


def outcome(body: bytes, form: Form) -> object:
    try:
        columns = parse_infer(body).columns(form)
    except RequestError as error:
        return error.message
    return {name: repr(column) for name, column in sorted(columns.items())}


class Slow(Form):
    """Looks at every field."""

    def read(self, values: Any, num_rows: int) -> None:
        return None


SLOW = Slow(SIGNATURE)


@given(REQUESTS | NEARLY_RIGHT | NEARLY_RIGHT.flatmap(in_any_order))
def test_the_quick_way_reads_what_the_long_way_does(document: Any) -> None:
    body = json.dumps(document).encode()
    assert outcome(body, FORM) == outcome(body, SLOW)
