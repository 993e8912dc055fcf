"""Clients of the Open Inference Protocol, for threads and for event loops.

What is said, when it is said again and what came of it are `messages`, `retrying` and
`conversation`, which know no network; the two clients send and sleep.
"""

from raymlops.serve.client.aio import AsyncClient
from raymlops.serve.client.messages import Answer
from raymlops.serve.client.sync import Client

__all__ = ["Answer", "AsyncClient", "Client"]
