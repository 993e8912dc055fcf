"""How the workers of a training talk: what is compressed, over which connections."""

from raymlops.train.communication.spec import (
    CommunicationSpec,
    CompressorName,
    NcclSpec,
    SocketSpec,
    for_gpus_alone,
    variables_of,
)

__all__ = [
    "CommunicationSpec",
    "CompressorName",
    "NcclSpec",
    "SocketSpec",
    "for_gpus_alone",
    "variables_of",
]
