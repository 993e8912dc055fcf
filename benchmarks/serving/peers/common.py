"""What every peer's server does: the same body, the same checks of names, the same model."""

import json
import math
import os
from pathlib import Path

import numpy as np
import onnxruntime
import orjson

FOLDER = Path(os.environ["SERVING_FOLDER"])
_scale = json.loads((FOLDER / "model.json").read_text())
NAMES = _scale["names"]
MEAN, STD = np.array(_scale["mean"]), np.array(_scale["std"])


class Model:
    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(FOLDER / "model.onnx"), options)
        self.input = self.session.get_inputs()[0].name

    def __call__(self, rows):
        matrix = ((np.array(rows) - MEAN) / STD).astype(np.float32)
        (logits,) = self.session.run(None, {self.input: matrix})
        return [1.0 / (1.0 + math.exp(-logit)) for logit in logits.tolist()]


def parse(body):
    request = orjson.loads(body)
    values = {tensor["name"]: tensor["data"][0] for tensor in request["inputs"]}
    return request["id"], [values[name] for name in NAMES]


def answer(request_id, probability):
    outputs = [
        {"name": "probability", "datatype": "FP32", "shape": [1], "data": [probability]},
        {"name": "first", "datatype": "BOOL", "shape": [1], "data": [probability >= 0.5]},
    ]
    return orjson.dumps({"model_name": "wines", "id": request_id, "outputs": outputs})
