"""The protocol's datatypes, and how their tensors lie in memory.

https://github.com/open-inference/open-inference-protocol/blob/main/specification/protocol/inference_rest.md#tensor-data-types
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raymlops.models import Field

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""All but BYTES, whose elements have no fixed size; little-endian on the wire."""

INTEGERS = frozenset(name for name in DTYPES if "INT" in name)
FLOATS = frozenset(("FP16", "FP32", "FP64"))
NUMBERS = INTEGERS | FLOATS


def accepted(field: Field) -> frozenset[str]:
    """The datatypes a tensor for `field` may have: every number fits a field of floats, and its
    value decides whether it fits one of integers."""
    if field.datatype in FLOATS:
        return NUMBERS
    if field.datatype in INTEGERS:
        return INTEGERS
    return frozenset((field.datatype,))
