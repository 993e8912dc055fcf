"""LitServe: one worker, batches of up to 32 with a wait of 1 ms."""

import sys

import litserve
from common import NAMES, Model, answer
from fastapi import Response


class Api(litserve.LitAPI):
    def setup(self, device):
        self.model = Model()

    def decode_request(self, request):
        values = {tensor["name"]: tensor["data"][0] for tensor in request["inputs"]}
        return request["id"], [values[name] for name in NAMES]

    def batch(self, inputs):
        return inputs

    def predict(self, inputs):
        probabilities = self.model([row for _, row in inputs])
        return [answer(each[0], p) for each, p in zip(inputs, probabilities, strict=True)]

    def unbatch(self, outputs):
        return outputs

    def encode_response(self, output):
        return Response(output, media_type="application/json")


if __name__ == "__main__":
    api = Api(max_batch_size=32, batch_timeout=0.001, api_path="/inference")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), log_level="error", generate_client_file=False
    )
