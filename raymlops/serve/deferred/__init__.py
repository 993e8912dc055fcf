"""Asynchronous inference: submit, then poll or be called back; the result is kept for a while.

POST .../infer, Prefer: respond-async --> 202, Location: /v2/models/flights/results/ID
GET  /v2/models/flights/results/ID    --> 202 while it is not there, then what /infer says
"""

from raymlops.serve.deferred.handler import Deferring
from raymlops.serve.deferred.policy import DeferredPolicy
from raymlops.serve.deferred.results import Results, Ticket

__all__ = ["DeferredPolicy", "Deferring", "Results", "Ticket"]
