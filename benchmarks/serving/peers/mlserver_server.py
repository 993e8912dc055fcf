"""MLServer: no process beside the server's, adaptive batches of up to 32 with a wait of 1 ms."""

import asyncio
import sys

from common import NAMES, Model
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.types import InferenceResponse, ResponseOutput


class Wines(MLModel):
    async def load(self):
        self.model = Model()
        return True

    async def predict(self, payload):
        columns = {tensor.name: list(tensor.data) for tensor in payload.inputs}
        rows = list(zip(*(columns[name] for name in NAMES), strict=True))
        probabilities = self.model(rows)
        shape = [len(rows)]
        return InferenceResponse(
            model_name=self.name,
            id=payload.id,
            outputs=[
                ResponseOutput(
                    name="probability", datatype="FP32", shape=shape, data=probabilities
                ),
                ResponseOutput(
                    name="first",
                    datatype="BOOL",
                    shape=shape,
                    data=[each >= 0.5 for each in probabilities],
                ),
            ],
        )


if __name__ == "__main__":
    port = int(sys.argv[1])
    settings = Settings(
        host="127.0.0.1", http_port=port, grpc_port=port + 1, metrics_port=port + 2,
        parallel_workers=0, use_structured_logging=False, debug=False,
    )  # fmt: skip
    model = ModelSettings(
        name="wines", implementation=Wines, max_batch_size=32, max_batch_time=0.001
    )
    asyncio.run(MLServer(settings).start([model]))
