"""How the workers of a training talk: what gradients are compressed by, and over what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

CompressorName: TypeAlias = Literal["float16", "bfloat16", "int8", "top_k", "random_k", "power_sgd"]

_PREFIXES = ("NCCL_", "GLOO_", "TORCH_NCCL_")

# NCCL's own figures for networks of 100 Gbit/s: one connection does not fill such a link.
_NCCL_PRESETS: Mapping[str, Mapping[str, str]] = {
    "ethernet": {
        "NCCL_IB_DISABLE": "1",
        "NCCL_SOCKET_NTHREADS": "4",
        "NCCL_NSOCKS_PERTHREAD": "4",
    },
    "infiniband": {"NCCL_IB_DISABLE": "0"},
}
_GPU_DIRECT: Mapping[bool, Mapping[str, str]] = {
    True: {"NCCL_P2P_DISABLE": "0", "NCCL_NET_GDR_LEVEL": "SYS"},
    False: {"NCCL_P2P_DISABLE": "1", "NCCL_NET_GDR_LEVEL": "LOC"},
}


@dataclass(frozen=True, kw_only=True)
class CommunicationSpec:
    """What is sent, and how; left out, all of it is what torch does.

    `compressor` sends the gradients of whole copies in fewer bytes, with `arguments` of its own:
    block of int8, ratio of top_k and random_k, rank of power_sgd. `interface` names the network
    interface. `nccl` is a preset for GPUs that talk over that network, `gpu_direct` has them reach
    each other's memory and the network card's, or not. `environment` are further variables of
    NCCL and gloo, which win.
    """

    compressor: CompressorName | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    interface: str | None = None
    nccl: Literal["ethernet", "infiniband"] | None = None
    gpu_direct: bool | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.arguments and self.compressor is None:
            raise ValueError(
                f"arguments are {dict(self.arguments)} without a compressor; name one, or leave "
                "them out"
            )
        strange = [name for name in self.environment if not name.startswith(_PREFIXES)]
        if strange:
            raise ValueError(
                f"environment sets {', '.join(strange)}; it is for variables of NCCL and gloo, "
                f"which begin with {', '.join(_PREFIXES)}"
            )


def variables_of(spec: CommunicationSpec) -> dict[str, str]:
    """The variables that the workers are started with."""
    found: dict[str, str] = {}
    if spec.interface is not None:
        # Checkpoints go by gloo, whatever the gradients go by.
        found |= {"GLOO_SOCKET_IFNAME": spec.interface, "NCCL_SOCKET_IFNAME": spec.interface}
    if spec.nccl is not None:
        found |= _NCCL_PRESETS[spec.nccl]
    if spec.gpu_direct is not None:
        found |= _GPU_DIRECT[spec.gpu_direct]
    return found | dict(spec.environment)


def for_gpus_alone(spec: CommunicationSpec) -> list[str]:
    """The settings that nothing reads where workers have no GPU, and talk by gloo."""
    found = [f"environment.{name}" for name in spec.environment if not name.startswith("GLOO_")]
    if spec.nccl is not None:
        found.append("nccl")
    if spec.gpu_direct is not None:
        found.append("gpu_direct")
    return found
