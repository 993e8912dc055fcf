"""PyTriton: Triton's server, one instance in Python, batches of up to 32 with a wait of 1 ms."""

import sys

import numpy as np
from common import NAMES, Model
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

if __name__ == "__main__":
    port = int(sys.argv[1])
    model = Model()

    @batch
    def infer(**columns):
        rows = np.concatenate([columns[name] for name in NAMES], axis=1)
        probabilities = np.array(model(rows), np.float32)[:, None]
        return {"probability": probabilities, "first": probabilities >= 0.5}

    ports = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
    with Triton(config=TritonConfig(http_address="127.0.0.1", log_verbose=0, **ports)) as triton:
        triton.bind(
            model_name="wines",
            infer_func=infer,
            inputs=[Tensor(name=name, dtype=np.float64, shape=(1,)) for name in NAMES],
            outputs=[
                Tensor(name="probability", dtype=np.float32, shape=(1,)),
                Tensor(name="first", dtype=np.bool_, shape=(1,)),
            ],
            config=ModelConfig(
                max_batch_size=32, batcher=DynamicBatcher(max_queue_delay_microseconds=1000)
            ),
        )
        triton.serve()
