from __future__ import annotations

from torch import Tensor

from raymlops.train.compression import Gradient


def flat(vector: Tensor) -> Gradient:
    """Of one parameter, which is a vector."""
    return Gradient(vector=vector, names=("weight",), shapes=((len(vector),),))
