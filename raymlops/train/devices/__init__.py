"""Devices: where a worker computes, by the name the spec gives."""

from raymlops.train.devices.base import Device
from raymlops.train.devices.cpu import Cpu
from raymlops.train.devices.cuda import Cuda
from raymlops.train.devices.make import group_backend, make_device
from raymlops.train.devices.xla import Xla

__all__ = ["Cpu", "Cuda", "Device", "Xla", "group_backend", "make_device"]
