"""Settings of communication: what they mean, and the loop under them, in real processes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from raymlops.data.loading import ArraySource
from raymlops.demo import digits
from raymlops.errors import ConfigError, PlanError, TrainingError
from raymlops.train import (
    CommunicationSpec,
    Factory,
    NcclSpec,
    ParallelPlan,
    SocketSpec,
    TrainSpec,
)
from raymlops.train.communication import CompressorName, for_gpus_alone, variables_of
from raymlops.train.communication.rendezvous import require_interfaces
from raymlops.train.compression import Int8, PowerSGD, TopK, make_compressor
from raymlops.train.plan.feasibility import Limits, require
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import (
    CheckpointPolicy,
    OptimizerSpec,
    Precision,
    ScheduleSpec,
    StoppingPolicy,
)
from raymlops.train.spec.loading import LoadingSpec
from raymlops.train.torch_backend import TorchBackend
from tests.endurance import endurance
from tests.train import gloo, models
from tests.train.specs import MLP

LEARNING = TrainSpec(
    model=Factory(call="raymlops.demo.digits:mlp", arguments={"num_hidden": 1}),
    data=Factory(call="raymlops.demo.digits:sources"),
    optimizer=OptimizerSpec(name="sgd", learning_rate=0.3),
    schedule=ScheduleSpec(name="cosine"),  # else the last steps are as large as the difference
    batch_size=64,
    epochs=20,
)
# 47,498 numbers: several buckets, had DDP its own way.
WIDE = replace(MLP, model=replace(MLP.model, arguments={"width": 160}), accumulation=1)


def compressed(spec: TrainSpec, name: CompressorName | None, **arguments: Any) -> TrainSpec:
    return replace(spec, communication=CommunicationSpec(compressor=name, arguments=arguments))


def train(seat: Seat, spec: TrainSpec, folder: Path) -> tuple[dict[str, Any], list[float]]:
    """The weights, and the MiB that each step sent."""
    from raymlops.train.checkpoints.checkpoints import Checkpoints
    from raymlops.train.loop.loop import Loop

    sent: list[float] = []

    def log(values: Mapping[str, float], step: int) -> None:
        if "sent_mb" in values:
            sent.append(values["sent_mb"])

    loop = Loop(spec, seat, checkpoints=Checkpoints(folder, spec.checkpoints, seat), log=log)
    loop.run()
    return loop.weights(), sent


def train_in_full(seat: Seat, spec: TrainSpec, folder: Path) -> torch.Tensor:
    """The weights of this rank's copy."""
    from raymlops.train.checkpoints.checkpoints import Checkpoints
    from raymlops.train.loop.loop import Loop

    loop = Loop(spec, seat, checkpoints=Checkpoints(folder, spec.checkpoints, seat))
    loop.run()
    return torch.cat([each.detach().flatten() for part in loop.parts for each in part.parameters()])


def accuracy(weights: Mapping[str, torch.Tensor]) -> float:
    model = digits.mlp(num_hidden=1)
    model.load_state_dict(dict(weights))
    return digits.accuracy(model, digits.sources()[1])


# Of 4,810 numbers: a byte each and a scale for each 256 of a half, or 8 bytes for 1 %.
@pytest.mark.parametrize(
    ("name", "arguments", "size_bytes"),
    [("int8", {}, 4_890), endurance("top_k", {"ratio": 0.01}, 384)],
)
def test_compressed_it_ends_where_it_does_without(
    name: CompressorName, arguments: dict[str, Any], size_bytes: int, tmp_path: Path
) -> None:
    plan = ParallelPlan(data=2)
    plain, sent = gloo.run(plan, train, LEARNING, tmp_path / "plain")[0]
    assert sent == []
    assert accuracy(plain) > 0.94
    spec = compressed(LEARNING, name, **arguments)
    weights, sent = gloo.run(plan, train, spec, tmp_path / name)[0]
    assert abs(accuracy(weights) - accuracy(plain)) <= 0.005
    assert {each * 2**20 for each in sent} == {size_bytes}


@pytest.mark.parametrize(
    ("name", "precision"),
    [("top_k", "fp16"), endurance("int8", "fp32"), endurance("power_sgd", "fp32")],
)
def test_what_was_not_sent_is_in_the_checkpoint(
    name: CompressorName, precision: Precision, tmp_path: Path
) -> None:
    plan = ParallelPlan(data=2)
    spec = compressed(replace(WIDE, precision=precision), name)
    spec = replace(spec, checkpoints=CheckpointPolicy(every_steps=5))
    whole, _ = gloo.run(plan, train, spec, tmp_path / "whole")[0]
    gloo.run(plan, train, replace(spec, max_steps=12), tmp_path / "cut")
    weights, sent = gloo.run(plan, train, spec, tmp_path / "cut")[0]
    assert len(sent) == 10  # from the checkpoint of step 10
    assert all(torch.equal(weights[each], whole[each]) for each in whole)


def test_other_numbers_of_replicas_go_on_from_what_was_not_sent(tmp_path: Path) -> None:
    # Of a choice by step and seed, all must know the step.
    spec = compressed(replace(WIDE, checkpoints=CheckpointPolicy(every_steps=4)), "random_k")
    for steps, plan in ((4, "data=2"), (8, "data=3"), (12, "data=1"), (16, "data=2")):
        cut = replace(spec, max_steps=steps)
        ranks = gloo.run(ParallelPlan.parse(plan), train_in_full, cut, tmp_path)
        assert all(torch.equal(each, ranks[0]) for each in ranks)


def spoilt_digits() -> ArraySource:
    """Digits, of which one row cannot be learned from."""
    train, _ = models.digits(333)
    images, labels = (column.copy() for column in train.columns)
    images[5, 0] = math.nan
    return ArraySource([images, labels])


def rescaled(seat: Seat, spec: TrainSpec) -> list[float]:
    """By what the unsent gradients were multiplied."""
    from raymlops.train.compression import CompressionHook
    from raymlops.train.loop.loop import Loop

    factors: list[float] = []
    rescale = CompressionHook.rescale

    def noted(hook: CompressionHook, factor: float) -> None:
        factors.append(factor)
        rescale(hook, factor)

    CompressionHook.rescale = noted  # type: ignore[method-assign]  # in a process of its own
    Loop(spec, seat).run()
    return factors


def test_what_was_not_sent_follows_the_scale_of_the_loss() -> None:
    spec = replace(
        compressed(MLP, "top_k"),
        data=Factory(call="tests.train.communication.test_spec:spoilt_digits"),
        precision="fp16",
        stopping=StoppingPolicy(on_nan="skip"),
        max_steps=7,  # an epoch
    )
    assert gloo.run(ParallelPlan(data=2), rescaled, spec) == [[0.5], [0.5]]


def unsent(seat: Seat, spec: TrainSpec) -> set[str]:
    """Of which parameters something was not sent in the end."""
    from raymlops.train.loop.loop import Loop

    loop = Loop(spec, seat)
    loop.run()
    names = loop.state.tensors()["compression"]
    return {name.split(".", 2)[2] for name in names if name.startswith("residuals.")}


def test_of_a_skipped_step_nothing_is_sent_later() -> None:
    """The head is a bucket of its own, and finite where the first layer is not."""
    lengths = Factory(call="tests.train.models:lengths", arguments={"num_outputs": 300_000})
    spec = replace(
        compressed(MLP, "top_k"),
        model=lengths,
        data=Factory(call="tests.train.models:blank_digits"),
        loading=LoadingSpec(order="none"),  # the first row is the one without a gradient
        batch_size=4,
        accumulation=1,
        clip_norm=None,
        stopping=StoppingPolicy(on_nan="skip"),
    )
    two = ParallelPlan(data=2)
    assert gloo.run(two, unsent, replace(spec, max_steps=1)) == [set(), set()]
    found = {"0.weight", "2.weight", "2.bias"}
    assert gloo.run(two, unsent, replace(spec, max_steps=2)) == [found, found]


def test_layouts_without_whole_copies_are_refused_with_the_nearest_that_have_them() -> None:
    backend = TorchBackend(compressed(MLP, "top_k"))
    limits = backend.limits(ParallelPlan(), Limits(max_workers=4, batch_size=64))
    for plan in (ParallelPlan(), ParallelPlan(data=4)):
        require(plan, limits)
    with pytest.raises(PlanError) as caught:
        require(ParallelPlan(data=2, shard=2), limits)
    assert caught.value.problems == (
        "shard is 2, but communication.compressor is top_k, which takes gradients of whole copies: "
        "use data alone, or set it to null",
    )
    assert caught.value.nearest == ("data=2", "data=3", "data=4")


def test_compressors_are_made_by_name_and_arguments() -> None:
    assert make_compressor(CommunicationSpec()) is None
    assert make_compressor(CommunicationSpec(compressor="int8")) == Int8(block=256)
    top_k = CommunicationSpec(compressor="top_k", arguments={"ratio": 0.1})
    assert make_compressor(top_k) == TopK(ratio=0.1)
    assert make_compressor(CommunicationSpec(compressor="power_sgd")) == PowerSGD(rank=2)
    wrong = CommunicationSpec(compressor="top_k", arguments={"share": 0.1})
    with pytest.raises(ValueError, match=r"arguments has share; top_k takes ratio"):
        make_compressor(wrong)


def test_variables_follow_from_the_settings_and_those_given_win() -> None:
    spec = CommunicationSpec(
        interface="eth1",
        sockets=SocketSpec(send_buffer_bytes=2**20),
        nccl=NcclSpec(preset="ethernet", algorithm="Tree", protocol="LL128", gpu_direct=False),
        environment={"NCCL_SOCKET_NTHREADS": "8", "GLOO_SOCKET_IFNAME": "lo"},
    )
    assert variables_of(spec) == {
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "eth1",
        "NCCL_IB_DISABLE": "1",
        "NCCL_SOCKET_NTHREADS": "8",
        "NCCL_NSOCKS_PERTHREAD": "4",
        "NCCL_P2P_DISABLE": "1",
        "NCCL_NET_GDR_LEVEL": "LOC",
        "NCCL_ALGO": "Tree",
        "NCCL_PROTO": "LL128",
        "NCCL_SOCKET_SNDBUF": "1048576",
    }
    assert variables_of(CommunicationSpec()) == {}
    on_cpu = TorchBackend(replace(MLP, communication=spec))
    assert on_cpu.environment == {"GLOO_SOCKET_IFNAME": "lo"}  # the others nobody reads
    on_gpu = TorchBackend(replace(MLP, device="cuda", communication=spec))
    assert on_gpu.environment == variables_of(spec)
    assert for_gpus_alone(spec) == [
        "environment.NCCL_SOCKET_NTHREADS",
        "nccl.preset",
        "nccl.algorithm",
        "nccl.protocol",
        "nccl.gpu_direct",
    ]


def test_what_these_workers_cannot_honour_is_refused_or_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plan, limits = ParallelPlan(data=2), Limits(max_workers=2, batch_size=50)
    on_gpu = replace(compressed(MLP, "int8"), device="cuda")
    with pytest.raises(
        TrainingError, match=r"int8, which compresses on the CPU, and device is cuda"
    ):
        TorchBackend(on_gpu).limits(plan, limits)
    with pytest.raises(TrainingError, match="ratio is 2, not within"):
        TorchBackend(compressed(MLP, "top_k", ratio=2)).limits(plan, limits)
    late = CommunicationSpec(sockets=SocketSpec(nodelay=False))
    with pytest.raises(TrainingError, match=r"nodelay is false, and NCCL always sends at once"):
        TorchBackend(replace(MLP, device="cuda", communication=late)).limits(plan, limits)
    ethernet = replace(MLP, communication=CommunicationSpec(nccl=NcclSpec(preset="ethernet")))
    TorchBackend(ethernet).limits(plan, limits)
    assert "communication sets nccl.preset, which workers without a GPU do not read" in caplog.text


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("{compressor: zip}", "communication.compressor: Input should be 'float16', "),
        ("{arguments: {ratio: 0.1}}", "arguments are {'ratio': 0.1} without a compressor"),
        ("{nccl: {preset: token_ring}}", "communication.nccl.preset: Input should be 'ethernet', "),
        ("{sockets: {send_buffer_bytes: 12}}", "send_buffer_bytes is 12; it is from 4096 to 10737"),
        ("{environment: {LD_PRELOAD: x}}", "environment sets LD_PRELOAD; it is for variables of"),
    ],
)
def test_wrong_settings_are_told_with_their_line(written: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "digits.yaml"
    path.write_text(
        "model: {call: 'tests.train.models:mlp'}\n"
        "data: {call: 'tests.train.models:digits'}\n"
        f"communication: {written}\n"
    )
    with pytest.raises(ConfigError) as caught:
        TrainSpec.read(path)
    assert f"{path}:3" in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize("names", ["lo", "", "lo,lo"])
def test_interfaces_that_a_machine_has_are_taken(
    names: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", names)
    require_interfaces()


def test_an_interface_that_a_machine_has_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo,nowhere0")
    monkeypatch.setattr("socket.if_nameindex", lambda: [(1, "lo"), (2, "eth0")])
    with pytest.raises(TrainingError, match=r"is nowhere0, and .*: set it to lo or eth0, or leave"):
        require_interfaces()
