"""BentoML: one worker, a row at a time, since its batches take no requests of this protocol."""

import os
import sys
from pathlib import Path

import bentoml
from common import NAMES, Model


@bentoml.service(workers=1)
class Wines:
    def __init__(self):
        self.model = Model()

    @bentoml.api(route="/inference")
    def infer(self, id: str, inputs: list[dict]) -> dict:
        values = {tensor["name"]: tensor["data"][0] for tensor in inputs}
        (probability,) = self.model([[values[name] for name in NAMES]])
        outputs = [
            {"name": "probability", "datatype": "FP32", "shape": [1], "data": [probability]},
            {"name": "first", "datatype": "BOOL", "shape": [1], "data": [probability >= 0.5]},
        ]
        return {"model_name": "wines", "id": id, "outputs": outputs}


if __name__ == "__main__":
    here = Path(__file__)
    command = ["serve", f"{here.stem}:Wines", "--host", "127.0.0.1", "--port", sys.argv[1]]
    os.execv(
        Path(sys.executable).with_name("bentoml"),
        ["bentoml", *command, "--working-dir", str(here.parent)],
    )
