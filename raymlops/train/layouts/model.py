"""The model of a spec, made and changed before it is laid out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from raymlops.errors import TrainingError
from raymlops.train.devices import Device
from raymlops.train.generators import kept, seed_others
from raymlops.train.spec import TrainSpec

_logger = logging.getLogger(__name__)


def build_model(spec: TrainSpec) -> nn.Module:
    """The untrained model; the same weights for the same seed.

    Raises:
        TrainingError: it is no module of torch, or its layers wait for rows to have a size.
    """
    spec.model.function()  # imported by now, so that what its module draws is none of the weights
    with torch.random.fork_rng(devices=[]), kept():
        torch.manual_seed(spec.seed)
        seed_others(spec.seed)
        model = spec.model.make()
    if not isinstance(model, nn.Module):
        raise TrainingError(f"{spec.model.call} made a {type(model).__name__}, not a torch module")
    if lazy := [name for name, held in _tensors(model) if is_lazy(held)]:
        raise TrainingError(
            f"{spec.model.call} made a model in which {', '.join(lazy)} have no size before its "
            "first pass: let the function give layers their sizes, or call the model on a row"
        )
    _write_out_expanded(model)
    _let_go_of_groups(model)
    return model


def outline(spec: TrainSpec) -> nn.Module | None:
    """The untrained model without its numbers, which takes no memory; None where it looks at them
    as it is made.

    Raises:
        TrainingError: it could not be trained.
    """
    try:
        spec.model.function()  # imported by now, so that the tensors of its module have numbers
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that weights were not loaded, for one
            model = build_model(spec)
    except TrainingError:
        raise
    except Exception:  # whatever it is: made with its numbers, it raises what is its own fault
        return None
    require_trainable(spec, model)
    return model


def _tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _write_out_expanded(model: nn.Module) -> None:
    """Gives buffers that were expanded, such as masks, memory for all their numbers: torch writes
    to no other, and what is restored or agreed upon among workers is written there."""
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            axes = zip(buffer.shape, buffer.stride(), strict=True)
            if any(size > 1 and stride == 0 for size, stride in axes):
                module._buffers[name] = buffer.clone(memory_format=torch.contiguous_format)


class SyncBatchNorm(_BatchNorm):
    """What torch's is in one process."""

    _check_input_dim = nn.SyncBatchNorm._check_input_dim


def _let_go_of_groups(model: nn.Module) -> None:
    """Leaves it to the layout which workers normalise together: SyncBatchNorm takes all processes
    for those that share rows, and none without a GPU."""
    for module in model.modules():
        if type(module) is nn.SyncBatchNorm:
            module.__class__ = SyncBatchNorm  # type: ignore[assignment]  # both add nothing


def require_trainable(spec: TrainSpec, model: nn.Module) -> None:
    """Raises TrainingError where no parameter requires a gradient."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise TrainingError(
            f"{spec.model.call} made a model without a parameter that requires a gradient: there "
            "is nothing to train; leave requires_grad of what is to be trained as it was"
        )


def require_constant_lookups(model: nn.Module) -> None:
    """Raises TrainingError, with the way out, of a model that changes weights as it looks them up:
    among workers that share a batch each would change others, and not tell."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.max_norm is not None:
            raise TrainingError(
                f"{name or 'the model'} has max_norm {module.max_norm:g}, which changes rows as "
                "they are looked up, in each worker those of its own share of a batch: leave it "
                "out, or use one process, tensor or pipeline alone"
            )


def compile_model(spec: TrainSpec, device: Device, model: nn.Module) -> None:
    """Compiles it in place, as `spec.compile` says; warns where the device cannot."""
    if spec.compile is None:
        return
    if (why := device.why_uncompiled(spec.compile)) is not None:
        _logger.warning("compile is %s, and %s: the model runs uncompiled", spec.compile, why)
        return
    model.compile(backend=spec.compile)
