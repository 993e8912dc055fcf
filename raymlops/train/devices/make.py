"""From the name in a spec to a device."""

from __future__ import annotations

from collections.abc import Mapping

from raymlops.train.devices.base import Device
from raymlops.train.devices.cpu import Cpu
from raymlops.train.devices.cuda import Cuda
from raymlops.train.devices.xla import Xla
from raymlops.train.spec import DeviceName

_DEVICES: Mapping[DeviceName, type[Cpu] | type[Cuda] | type[Xla]] = {
    "cpu": Cpu,
    "cuda": Cuda,
    "xla": Xla,
}


def make_device(name: DeviceName) -> Device:
    """The device of this process.

    Raises:
        TrainingError: it has none such; says what is missing.
    """
    return _DEVICES[name]()


def group_backend(name: DeviceName) -> str:
    """What workers on such devices talk by, as torch.distributed names it."""
    return _DEVICES[name].group_backend
