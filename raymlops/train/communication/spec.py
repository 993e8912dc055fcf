"""How the workers of a training talk: what gradients are compressed by, and over what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias

from raymlops.train.checks import require_types

CompressorName: TypeAlias = Literal["float16", "bfloat16", "int8", "top_k", "random_k", "power_sgd"]

NcclPreset: TypeAlias = Literal["ethernet", "infiniband", "roce"]
NcclAlgorithm: TypeAlias = Literal["Ring", "Tree", "NVLS"]
NcclProtocol: TypeAlias = Literal["LL", "LL128", "Simple"]

_PREFIXES = ("NCCL_", "GLOO_", "TORCH_NCCL_")

# Of what NVIDIA advises: one connection does not fill a link of 100 Gbit/s; RoCE v2 is routed.
_PRESETS: Mapping[NcclPreset, Mapping[str, str]] = {
    "ethernet": {
        "NCCL_IB_DISABLE": "1",
        "NCCL_SOCKET_NTHREADS": "4",
        "NCCL_NSOCKS_PERTHREAD": "4",
    },
    "infiniband": {"NCCL_IB_DISABLE": "0"},
    "roce": {"NCCL_IB_DISABLE": "0", "NCCL_IB_ROCE_VERSION_NUM": "2"},
}
_GPU_DIRECT: Mapping[bool, Mapping[str, str]] = {
    True: {"NCCL_P2P_DISABLE": "0", "NCCL_NET_GDR_LEVEL": "SYS"},
    False: {"NCCL_P2P_DISABLE": "1", "NCCL_NET_GDR_LEVEL": "LOC"},
}
_SMALLEST_BUFFER, _LARGEST_BUFFER = 4 * 2**10, 2**30


@dataclass(frozen=True, kw_only=True)
class SocketSpec:
    """Options of the TCP connections between workers; left out, they are what gloo and NCCL set.

    Without `nodelay` small messages wait to be sent together. Large buffers fill links that are
    quick and long; the kernel may grant less (net.core.wmem_max, rmem_max), which is told.
    """

    nodelay: bool | None = None
    send_buffer_bytes: int | None = None
    receive_buffer_bytes: int | None = None

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("send_buffer_bytes", "receive_buffer_bytes"):
            size = getattr(self, name)
            if size is not None and not _SMALLEST_BUFFER <= size <= _LARGEST_BUFFER:
                raise ValueError(
                    f"{name} is {size}; it is from {_SMALLEST_BUFFER} to {_LARGEST_BUFFER} bytes"
                )


@dataclass(frozen=True, kw_only=True)
class NcclSpec:
    """How GPUs talk; left out, NCCL finds out by itself.

    `preset` is the network between machines. `algorithm` and `protocol` are those of collectives.
    `gpu_direct` has GPUs reach each other's memory, and the network card theirs, or not.
    """

    preset: NcclPreset | None = None
    algorithm: NcclAlgorithm | None = None
    protocol: NcclProtocol | None = None
    gpu_direct: bool | None = None

    def __post_init__(self) -> None:
        require_types(self)


@dataclass(frozen=True, kw_only=True)
class CommunicationSpec:
    """What is sent, and how; left out, all of it is what torch does.

    `compressor` sends the gradients of whole copies in fewer bytes, with `arguments` of its own:
    block of int8, ratio of top_k and random_k, rank of power_sgd. `interface` names the network
    interface, `sockets` are options of connections, `nccl` those of GPUs. `environment` are further
    variables of NCCL and gloo, which win.
    """

    compressor: CompressorName | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    interface: str | None = None
    sockets: SocketSpec = field(default_factory=SocketSpec)
    nccl: NcclSpec = field(default_factory=NcclSpec)
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_types(self)
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
    return found | _of_nccl(spec) | dict(spec.environment)


def _of_nccl(spec: CommunicationSpec) -> dict[str, str]:
    found: dict[str, str] = {}
    nccl, sockets = spec.nccl, spec.sockets
    if nccl.preset is not None:
        found |= _PRESETS[nccl.preset]
    if nccl.gpu_direct is not None:
        found |= _GPU_DIRECT[nccl.gpu_direct]
    named = {
        "NCCL_ALGO": nccl.algorithm,
        "NCCL_PROTO": nccl.protocol,
        "NCCL_SOCKET_SNDBUF": sockets.send_buffer_bytes,
        "NCCL_SOCKET_RCVBUF": sockets.receive_buffer_bytes,
    }
    return found | {name: str(value) for name, value in named.items() if value is not None}


def for_gpus_alone(spec: CommunicationSpec) -> list[str]:
    """The settings that nothing reads where workers have no GPU, and talk by gloo."""
    found = [f"environment.{name}" for name in spec.environment if not name.startswith("GLOO_")]
    set_ones = [f.name for f in fields(spec.nccl) if getattr(spec.nccl, f.name) is not None]
    return found + [f"nccl.{name}" for name in set_ones]
