"""mosec: its Rust front, one worker, batches of up to 32 with a wait of 1 ms."""

from common import Model, answer, parse
from mosec import Server, Worker


class Inference(Worker):
    def __init__(self):
        super().__init__()
        self.model = Model()

    def deserialize(self, data):
        return parse(data)

    def serialize(self, data):
        return data

    def forward(self, requests):
        probabilities = self.model([row for _, row in requests])
        return [answer(each[0], p) for each, p in zip(requests, probabilities, strict=True)]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Inference, num=1, max_batch_size=32, max_wait_time=1)
    server.run()
