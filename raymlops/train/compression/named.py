"""The compressor that a spec names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from raymlops.train.communication import CommunicationSpec, CompressorName
from raymlops.train.compression.base import Compressor
from raymlops.train.compression.blockwise import Int8
from raymlops.train.compression.half import BFloat16, Float16
from raymlops.train.compression.power_sgd import PowerSGD
from raymlops.train.compression.sparse import RandomK, TopK

_COMPRESSORS: Mapping[CompressorName, type[Compressor]] = {
    "float16": Float16,
    "bfloat16": BFloat16,
    "int8": Int8,
    "top_k": TopK,
    "random_k": RandomK,
    "power_sgd": PowerSGD,
}


def make_compressor(spec: CommunicationSpec) -> Compressor | None:
    """None where gradients are sent as they are.

    Raises:
        ValueError: the compressor takes no such argument, or not that value.
    """
    if spec.compressor is None:
        return None
    kind = _COMPRESSORS[spec.compressor]
    known = [each.name for each in fields(kind)]  # type: ignore[arg-type]  # each is a dataclass
    if unknown := sorted(spec.arguments.keys() - set(known)):
        raise ValueError(
            f"communication.arguments has {', '.join(unknown)}; {spec.compressor} takes "
            f"{', '.join(known) or 'none'}"
        )
    return kind(**spec.arguments)
