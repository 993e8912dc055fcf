"""Ray Serve as it comes: its own proxy, one replica, batches of up to 32 with a wait of 1 ms."""

import sys
import threading

import ray
from common import Model, answer, parse
from ray import serve
from starlette.responses import Response


@serve.deployment(max_ongoing_requests=256)  # 5, the default, would keep batches that small
class Server:
    def __init__(self):
        self.model = Model()

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.001)
    async def run(self, rows):
        return self.model(rows)

    async def __call__(self, request):
        request_id, row = parse(await request.body())
        return Response(answer(request_id, await self.run(row)), media_type="application/json")


if __name__ == "__main__":
    ray.init(include_dashboard=False, num_cpus=2, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Server.bind(), route_prefix="/inference")
    threading.Event().wait()
