"""What Triton's own client makes of our server; runs in the environment of that client.

    python triton_script.py HTTP_ADDRESS GRPC_ADDRESS MODEL < {"columns": {...}}

Prints the outputs by each way, and what was refused and how.
"""

import json
import sys

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException


def main() -> None:
    http, grpc, model = sys.argv[1:]
    columns = json.load(sys.stdin)["columns"]
    found = {}
    with tritonclient.http.InferenceServerClient(http) as client:
        found["http_described"] = described(client, model)
        for name, binary in (("http_json", False), ("http_binary", True)):
            found[name] = infer(tritonclient.http, client, model, columns, binary_data=binary)
        found["http_gzip"] = infer(
            tritonclient.http,
            client,
            model,
            columns,
            call={"request_compression_algorithm": "gzip"},
            binary_data=True,
        )
        found["http_refused"] = refused(tritonclient.http, client, model, columns)
    with tritonclient.grpc.InferenceServerClient(grpc) as client:
        found["grpc_described"] = described(client, model, as_json=True)
        found["grpc"] = infer(tritonclient.grpc, client, model, columns)
        found["grpc_refused"] = refused(tritonclient.grpc, client, model, columns)
    json.dump(found, sys.stdout)


def described(client, model, **options):
    metadata = client.get_model_metadata(model, **options)
    index = client.get_model_repository_index(**options)
    statistics = client.get_inference_statistics(model, **options)
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready(model, "1.0.1"),
        "other_ready": client.is_model_ready(model, "7.0.0"),
        "server": client.get_server_metadata(**options)["name"],
        "inputs": [[tensor["name"], tensor["datatype"]] for tensor in metadata["inputs"]],
        "index": [each["version"] for each in (index["models"] if options else index)],
        "statistics": [each["version"] for each in statistics["model_stats"]],
    }


def inputs_of(kind, columns, **options):
    inputs = []
    for name, values in columns.items():
        is_text = isinstance(values[0], str)
        array = np.array(values, dtype=object if is_text else np.float64)
        tensor = kind.InferInput(name, array.shape, "BYTES" if is_text else "FP64")
        tensor.set_data_from_numpy(array, **options)
        inputs.append(tensor)
    return inputs


def infer(kind, client, model, columns, call=None, **options):
    outputs = [kind.InferRequestedOutput(name, **options) for name in ("benign", "probability")]
    answer = client.infer(
        model,
        inputs_of(kind, columns, **options),
        outputs=outputs,
        request_id="r-1",
        model_version="1.0.1",
        **(call or {}),
    )
    response = answer.get_response()
    return {
        "id": response["id"] if isinstance(response, dict) else response.id,
        "probability": answer.as_numpy("probability").tolist(),
        "benign": answer.as_numpy("benign").tolist(),
    }


def refused(kind, client, model, columns):
    wrong = columns | {"radius": [-1.0] * len(columns["radius"])}
    try:
        client.infer(model, inputs_of(kind, wrong))
    except InferenceServerException as error:
        return error.message()
    return None


if __name__ == "__main__":
    main()
