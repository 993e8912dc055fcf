"""What reading and writing a request costs, by protocol: 15 fields, one row and many.

Time is the processor's, the smallest of many runs, so that a busy machine disturbs little. The
reference is orjson alone reading the same body: what is ours is the rest.
"""

from __future__ import annotations

import argparse
import time
import timeit
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import orjson

from benchmarks.figures import Figure, report
from raymlops.models import Field, Signature
from raymlops.serve.batching.shares import Batch, Share
from raymlops.serve.form import Form
from raymlops.serve.inference import Result
from raymlops.serve.protocols.open_inference.ask import parse_infer
from raymlops.serve.protocols.open_inference.grpc.ask import parse_message
from raymlops.serve.protocols.open_inference.grpc.messages import request_class
from raymlops.serve.protocols.records.ask import parse_records
from raymlops.serve.protocols.tensorflow_serving.ask import parse_predict
from raymlops.serve.web import Request

NUMBERS = tuple(f"number_{index}" for index in range(12))
TEXTS = ("carrier", "origin", "dest")
FORM = Form(
    Signature(
        inputs=(
            *(Field(name=name, datatype="FP64", low=-1e6, high=1e6) for name in NUMBERS),
            *(Field(name=name, datatype="BYTES") for name in TEXTS),
        ),
        outputs=(Field(name="probability", datatype="FP32"), Field(name="late", datatype="BOOL")),
    )
)
GOAL_US = 12.0

Serve = Callable[[], object]
"""One request from its bytes to the bytes of its answer."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    repeats = 60 if parser.parse_args().quick else 400
    report("protocols", [*figures(repeats)])


def figures(repeats: int) -> Iterator[Figure]:
    for num_rows in (1, 100):
        columns = columns_of(num_rows)
        body, infer = open_inference(columns, num_rows)
        alone = microseconds(lambda body=body: orjson.loads(body), repeats)
        ours = microseconds(infer, repeats)
        yield Figure(
            name=f"json_{num_rows}_rows_us",
            unit="us",
            ours=ours,
            references={"orjson.loads": alone},
            goal=f"at most {GOAL_US:g} us on an idle core" if num_rows == 1 else None,
            met=ours <= GOAL_US if num_rows == 1 else None,
        )
        others = {
            "binary": binary(columns, num_rows),
            "grpc": grpc(columns, num_rows),
            "records": records(columns, num_rows),
            "tensorflow_serving": tensorflow_serving(columns, num_rows),
        }
        for name, serve in others.items():
            yield Figure(
                name=f"{name}_{num_rows}_rows_us",
                unit="us",
                ours=microseconds(serve, repeats),
                references={"json": ours},
            )


def microseconds(call: Serve, repeats: int) -> float:
    """Processor time of one call: the least of `repeats` groups."""
    number = 50
    taken = timeit.repeat(call, number=number, repeat=repeats, timer=time.process_time)
    return min(taken) / number * 1e6


def columns_of(num_rows: int) -> dict[str, list[Any]]:
    values: dict[str, list[Any]] = {
        name: [1.37 * index + row for row in range(num_rows)] for index, name in enumerate(NUMBERS)
    }
    return values | {name: ["UA", "B6"] * (num_rows // 2) or ["UA"] for name in TEXTS}


def result(num_rows: int) -> Callable[[], Result]:
    """Makes the result of a request that shares its batch with nobody."""
    outputs = {
        "probability": np.linspace(0.1, 0.9, num_rows, dtype=np.float32),
        "late": np.arange(num_rows) % 2 == 0,
    }

    def make() -> Result:
        share = Share(Batch({}, outputs), 0, num_rows)
        return Result("flights", "1.0.0", "champion", FORM, share)

    return make


def open_inference(columns: dict[str, list[Any]], num_rows: int) -> tuple[bytes, Serve]:
    tensors = [
        {
            "name": name,
            "datatype": "BYTES" if name in TEXTS else "FP64",
            "shape": [num_rows],
            "data": values,
        }
        for name, values in columns.items()
    ]
    body = orjson.dumps({"id": "r-1", "parameters": {"key": "anna"}, "inputs": tensors})
    answer = result(num_rows)

    def serve() -> object:
        ask = parse_infer(body)
        ask.columns(FORM)
        return ask.encode(answer())

    return body, serve


def binary(columns: dict[str, list[Any]], num_rows: int) -> Serve:
    raw = [
        b"".join(len(text).to_bytes(4, "little") + text.encode() for text in values)
        if name in TEXTS
        else np.array(values).tobytes()
        for name, values in columns.items()
    ]
    tensors = [
        {
            "name": name,
            "datatype": "BYTES" if name in TEXTS else "FP64",
            "shape": [num_rows],
            "parameters": {"binary_data_size": len(part)},
        }
        for name, part in zip(columns, raw, strict=True)
    ]
    parameters = {"key": "anna", "binary_data_output": True}
    head = orjson.dumps({"id": "r-1", "parameters": parameters, "inputs": tensors})
    body, length, answer = b"".join((head, *raw)), str(len(head)), result(num_rows)

    def serve() -> object:
        ask = parse_infer(body, json_length=length)
        ask.columns(FORM)
        return ask.encode(answer())

    return serve


def grpc(columns: dict[str, list[Any]], num_rows: int) -> Serve:
    kind = request_class("ModelInfer")
    message = kind(model_name="flights", id="r-1")
    for name, values in columns.items():
        datatype = "BYTES" if name in TEXTS else "FP64"
        message.inputs.add(name=name, datatype=datatype, shape=[num_rows])
        message.raw_input_contents.append(
            b"".join(len(text).to_bytes(4, "little") + text.encode() for text in values)
            if name in TEXTS
            else np.array(values).tobytes()
        )
    sent, answer = message.SerializeToString(), result(num_rows)

    def serve() -> object:
        ask = parse_message(kind.FromString(sent), left_s=None)
        ask.columns(FORM)
        return ask.encode(answer()).SerializeToString()

    return serve


def records(columns: dict[str, list[Any]], num_rows: int) -> Serve:
    request, answer = (
        Request("POST", "/predict", body=orjson.dumps(rows_of(columns))),
        result(num_rows),
    )

    def serve() -> object:
        ask = parse_records(request, version=None)
        ask.columns(FORM)
        return ask.encode(answer())

    return serve


def tensorflow_serving(columns: dict[str, list[Any]], num_rows: int) -> Serve:
    body = orjson.dumps({"instances": rows_of(columns)})
    request, answer = Request("POST", "/v1/models/flights:predict", body=body), result(num_rows)

    def serve() -> object:
        ask = parse_predict(request, None)
        ask.columns(FORM)
        return ask.encode(answer())

    return serve


def rows_of(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


if __name__ == "__main__":
    main()
