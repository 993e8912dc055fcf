"""Devices: what each says of itself, and the order in which a training asks XLA for work."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from raymlops.errors import PlanError, TrainingError
from raymlops.operate import propose_plan
from raymlops.train import ParallelPlan
from raymlops.train.devices import Cpu, Cuda, Device, Xla, group_backend, make_device
from raymlops.train.devices.peaks import known_flops_per_s
from raymlops.train.loop.loop import Loop
from raymlops.train.loop.meter import Meter, host_memory_bytes
from raymlops.train.plan.feasibility import Limits, require
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import DeviceName, Precision
from raymlops.train.torch_backend import TorchBackend
from tests.train import gloo
from tests.train.layouts.training import train
from tests.train.specs import MLP


class FakeXla:
    """What raymlops uses of torch_xla, on the CPU; `calls` are in the order they came."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.seed = 7
        package, core, model, runtime = (
            ModuleType(name)
            for name in ("torch_xla", "torch_xla.core", "xla_model", "torch_xla.runtime")
        )
        told: dict[ModuleType, dict[str, Any]] = {
            package: {"device": lambda: torch.device("cpu"), "sync": self._called("sync")},
            core: {},
            model: {
                "wait_device_ops": self._called("wait"),
                "get_memory_info": lambda device: {"peak_bytes_used": 5 * 2**20},
                "get_rng_state": lambda device: self.seed,
                "set_rng_state": self._set_seed,
            },
            runtime: {"device_type": lambda: "CPU"},
        }
        for module, functions in told.items():
            for name, function in functions.items():
                setattr(module, name, function)
        self.modules = {
            "torch_xla": package,
            "torch_xla.core": core,
            "torch_xla.core.xla_model": model,
            "torch_xla.runtime": runtime,
        }

    def _called(self, name: str) -> Any:
        return lambda: self.calls.append(name)

    def _set_seed(self, seed: int, device: torch.device) -> None:
        self.seed = seed


@pytest.fixture
def fake_xla(monkeypatch: pytest.MonkeyPatch) -> FakeXla:
    fake = FakeXla()
    for name, module in fake.modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return fake


@pytest.fixture(params=["cpu", "cuda", "xla"])
def device(request: pytest.FixtureRequest) -> Device:
    if request.param == "xla":
        request.getfixturevalue("fake_xla")
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no GPU of NVIDIA here")
    return make_device(request.param)


def test_every_device_honours_the_contract(device: Device) -> None:
    column = torch.arange(6.0).to(device.where)
    device.end_step()
    device.finish()
    assert column.sum(dtype=device.wide).to(device.sends_from).item() == 15.0
    device.require("fp32")
    with device.autocast("fp32"):
        assert not torch.is_autocast_enabled(device.where.type)
    device.require("bf16")
    with device.autocast("bf16"):
        assert (column[:, None] @ column[None]).dtype == torch.bfloat16
    assert device.peak_flops_per_s("fp32") > 0
    state = device.generator_state()
    if state is not None:
        device.set_generator_state(state)
        assert torch.equal(state, device.generator_state())
    assert device.label


def test_workers_talk_by_what_their_device_can() -> None:
    names: list[DeviceName] = ["cpu", "cuda", "xla"]
    assert [group_backend(name) for name in names] == ["gloo", "nccl", "gloo"]


def test_xla_is_told_where_each_step_ends(fake_xla: FakeXla) -> None:
    calls = fake_xla.calls
    stepped = register_optimizer_step_post_hook(lambda *_: calls.append("optimizer"))
    try:
        loop = Loop(replace(MLP, max_steps=3), Seat(device=make_device("xla")))
        calls.clear()
        loop.run()
    finally:
        stepped.remove()
    assert calls == ["optimizer", "sync"] * 3


def test_xla_tells_its_memory_and_goes_on_with_its_random_numbers(fake_xla: FakeXla) -> None:
    xla = Xla()
    assert xla.own_memory_bytes() == 5 * 2**20
    state = xla.generator_state()
    fake_xla.seed = 9
    xla.set_generator_state(state)
    assert fake_xla.seed == 7
    assert xla.why_uncompiled("openxla") is None
    assert xla.why_uncompiled("inductor") == "XLA compiles every step itself"
    with pytest.raises(TrainingError, match=r"precision is fp16, which CPU \(XLA\) cannot compute"):
        xla.require("fp16")


def on_xla(seat: Seat, spec: Any) -> Any:
    sys.modules |= FakeXla().modules
    return train(replace(seat, device=make_device("xla")), spec)


def test_copies_behind_xla_agree_through_the_host() -> None:
    plan, spec = ParallelPlan(data=2), replace(MLP, max_steps=8)
    logged, weights, _ = gloo.run(plan, train, spec)[0]
    behind, same, _ = gloo.run(plan, on_xla, replace(spec, device="xla"))[0]
    losses = [values["loss"] for values in logged if "loss" in values]
    assert [v["loss"] for v in behind if "loss" in v] == pytest.approx(losses, abs=1e-6)
    for name, weight in weights.items():
        assert torch.allclose(same[name], weight, rtol=0, atol=1e-6), name


def test_what_a_device_cannot_lay_out_is_refused_with_the_nearest_that_can() -> None:
    limits = Limits(max_workers=2, batch_size=64)
    for spec, why in (
        (replace(MLP, device="xla"), "device is xla, which trains whole copies: use data alone"),
        (
            replace(MLP, device="cuda", cuda_graphs=True),
            "cuda_graphs is true, which records whole copies: use data alone, or set it to false",
        ),
    ):
        backend = TorchBackend(spec)
        require(ParallelPlan(data=2), backend.limits(ParallelPlan(data=2), limits))
        with pytest.raises(PlanError) as caught:
            require(ParallelPlan(shard=2), backend.limits(ParallelPlan(shard=2), limits))
        assert caught.value.problems == (f"shard is 2, but {why}",)
        with pytest.raises(TrainingError, match=f"and device is {spec.device}, of whose memory"):
            propose_plan(spec)


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_xla", None)
    with pytest.raises(
        TrainingError, match=r"has no torch_xla: pip install 'torch_xla\[tpu\]', of"
    ):
        make_device("xla")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_never_replaced_by_the_cpu() -> None:
    with pytest.raises(
        TrainingError, match=r"device is cuda, and .* has no GPU that torch .* sees"
    ):
        Cuda()


@pytest.mark.parametrize(
    ("name", "precision", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989.4),
        ("NVIDIA H100 PCIe", "fp16", 756.4),
        ("NVIDIA A100-SXM4-80GB", "fp32", 19.5),
        ("NVIDIA L4", "bf16", 121.0),
        ("NVIDIA L40S", "bf16", 362.0),
        ("Tesla T4", "bf16", None),  # has no such units
        ("NVIDIA L400", "bf16", None),  # not an L4
        ("NVIDIA GeForce RTX 4090", "fp16", None),
    ],
)
def test_peaks_are_known_by_the_drivers_name(
    name: str, precision: Precision, tera: float | None
) -> None:
    assert known_flops_per_s(name, precision) == (None if tera is None else tera * 1e12)


def test_a_cpu_claims_no_memory_of_its_own() -> None:
    values = Meter(Cpu()).finish(num_rows=10)
    assert "device_memory_mb" not in values
    assert "mfu" not in values
    held = values["memory_mb"] * 2**20
    more = bytearray(64 * 2**20)
    more[::4096] = b"x" * len(more[::4096])  # touched, so that it is held
    assert host_memory_bytes() >= max(held, len(more))


def test_memory_is_that_of_the_process_and_not_of_who_started_it() -> None:
    large = bytearray(700 * 2**20)
    large[::4096] = b"x" * len(large[::4096])
    script = "from raymlops.train.loop.meter import host_memory_bytes; print(host_memory_bytes())"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert int(told.stdout) < len(large)
