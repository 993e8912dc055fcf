"""How Ray Train's workers meet before they train with torch: by interfaces that they have.

Which machines they are on is known to nobody before, so they look for themselves. torch raises what
names neither machine nor setting, from within Ray's start of all of them.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Any

from ray.train.backend import Backend
from ray.train.torch.config import TorchConfig, _TorchBackend

from raymlops.errors import TrainingError

_VARIABLE = "GLOO_SOCKET_IFNAME"


@dataclass
class Rendezvous(TorchConfig):
    """As Ray has it of torch, once every worker has the interfaces it is to talk over."""

    @property
    def backend_cls(self) -> type[Backend]:
        return _Meeting


class _Meeting(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        worker_group.execute(require_interfaces)
        super().on_start(worker_group, backend_config)


def require_interfaces() -> None:
    """Raises TrainingError where this machine has no interface of a name that gloo was given."""
    present = [name for _, name in socket.if_nameindex()]
    for name in filter(None, os.environ.get(_VARIABLE, "").split(",")):
        if name not in present:
            raise TrainingError(
                f"communication.interface is {name}, and {socket.gethostname()} has no network "
                f"interface of that name: set it to {' or '.join(present)}, or leave it out"
            )
