"""HTTP/1.1 for `raymlops.serve.web`: a state machine without I/O, connections, a server."""

from raymlops.serve.http.connection import HandOver
from raymlops.serve.http.limits import HttpLimits
from raymlops.serve.http.machine import Belongs, Strayed
from raymlops.serve.http.server import HttpServer

__all__ = ["Belongs", "HandOver", "HttpLimits", "HttpServer", "Strayed"]
