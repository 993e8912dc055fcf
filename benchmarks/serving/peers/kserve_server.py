"""KServe's server for models in Python: one worker, a row at a time, as it has no batches."""

import sys

from common import NAMES, Model
from kserve import InferOutput, InferResponse, ModelServer
from kserve import Model as Served


class Wines(Served):
    def __init__(self):
        super().__init__("wines")
        self.model = Model()
        self.ready = True

    async def predict(self, payload, headers=None, response_headers=None):
        values = {tensor.name: tensor.data[0] for tensor in payload.inputs}
        (probability,) = self.model([[values[name] for name in NAMES]])
        return InferResponse(
            response_id=payload.id,
            model_name=self.name,
            infer_outputs=[
                InferOutput("probability", [1], "FP32", [probability]),
                InferOutput("first", [1], "BOOL", [probability >= 0.5]),
            ],
        )


if __name__ == "__main__":
    server = ModelServer(
        http_port=int(sys.argv[1]), workers=1, enable_grpc=False, enable_docs_url=False,
        access_log_format=None,
    )  # fmt: skip
    server.start([Wines()])
