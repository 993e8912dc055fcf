"""Gradients in fewer bytes: compressors, error feedback, the ways to all workers or a server."""

from raymlops.train.compression.base import Compressor, Gradient, Memory, Seat
from raymlops.train.compression.blockwise import Int8
from raymlops.train.compression.feedback import Feedback
from raymlops.train.compression.half import BFloat16, Float16
from raymlops.train.compression.hook import CompressionHook
from raymlops.train.compression.named import make_compressor
from raymlops.train.compression.power_sgd import PowerSGD
from raymlops.train.compression.push import Encoder, decode
from raymlops.train.compression.saved import Compression
from raymlops.train.compression.sparse import RandomK, TopK

__all__ = [
    "BFloat16",
    "Compression",
    "CompressionHook",
    "Compressor",
    "Encoder",
    "Feedback",
    "Float16",
    "Gradient",
    "Int8",
    "Memory",
    "PowerSGD",
    "RandomK",
    "Seat",
    "TopK",
    "decode",
    "make_compressor",
]
