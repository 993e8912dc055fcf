"""The forward of a model as a graph of modules and what runs between them.

It is traced, in training and in evaluation, and holds for both or is refused. A model whose forward
cannot be traced names its blocks itself: see `Chained`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, Protocol, runtime_checkable

import torch
from torch import fx, nn

from raymlops.errors import TrainingError
from raymlops.train.loop.buffers import copy_buffers, put_back
from raymlops.train.loop.modes import keeping_modes

WAY_OUT = "give the model a method pipeline_blocks() that names its modules in order"


@runtime_checkable
class Chained(Protocol):
    """A model that names its own chain: its forward calls these modules in this order, each on
    what the one before gave, and does nothing else."""

    def pipeline_blocks(self) -> Sequence[str]:
        """Names of modules, as in `named_modules`, such as `["embedding", "blocks.0", "head"]`."""


def forward_graph(model: nn.Module) -> fx.Graph:
    """The graph of what `model` does to its inputs; tensors that it makes from nothing it is given
    become attributes of it.

    Raises:
        TrainingError: there is none, or another in evaluation; says the way out.
    """
    if isinstance(model, Chained):
        return _named(model, model.pipeline_blocks())
    return _trace(model)


def attribute(model: nn.Module, name: str) -> Any:
    value: Any = model
    for part in name.split("."):
        value = getattr(value, part)
    return value


def first_few(names: Sequence[str]) -> str:
    """For messages."""
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


class _Tracer(fx.Tracer):
    """Enters the model and what merely holds a sequence; every other module is one step."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, nn.Sequential):
            return False
        holder, _, _ = module_qualified_name.rpartition(".")
        is_element = isinstance(self.root.get_submodule(holder), nn.ModuleList)
        holds_elements = any(isinstance(child, nn.ModuleList) for child in m.children())
        return is_element or not holds_elements or super().is_leaf_module(m, module_qualified_name)

    def get_fresh_qualname(self, prefix: str) -> str:
        """The same at every trace of a model; torch goes on counting."""
        names = (f"{prefix}{number}" for number in count())
        return next(name for name in names if not hasattr(self.root, name))


def _trace(model: nn.Module) -> fx.Graph:
    with keeping_modes(model):
        train, made = _trace_once(model.train())
        evaluation, made_again = _trace_once(model.eval())
    if str(train) != str(evaluation):
        raise TrainingError(
            f"the forward of {type(model).__name__} itself differs between training and "
            "evaluation; use a module for what differs, such as nn.Dropout for F.dropout"
        )
    if not all(_is_same(made[name], made_again[name]) for name in made):
        raise TrainingError(
            f"the forward of {type(model).__name__} itself makes a tensor that is another each "
            "time, such as random numbers, and stages would have the first: make it in a module "
            "that the forward calls"
        )
    for name, constant in made.items():
        setattr(model, name, constant)
    return train


def _trace_once(model: nn.Module) -> tuple[fx.Graph, dict[str, torch.Tensor]]:
    """The forward with its optional arguments left out, and the tensors that it makes from nothing
    it is given, such as positions, by the names that the graph reads them under."""
    parameters = inspect.signature(model.forward).parameters.values()
    optional = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    before = set(vars(model))
    with _refusing_changes(model):
        try:
            graph = _Tracer().trace(model, concrete_args=optional)
        except Exception as error:  # tracing runs the model's own code, which may raise anything
            raise TrainingError(
                f"the forward of {type(model).__name__} cannot be followed ({error}); {WAY_OUT}"
            ) from error
    _erase(graph, optional)
    read = {str(node.target) for node in graph.find_nodes(op="get_attr")}
    made = sorted(read & vars(model).keys() - before)  # by fx, which keeps them there
    return graph, {name: vars(model).pop(name) for name in made}


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are equal, as far as tensors without their numbers tell."""
    if one.is_meta or other.is_meta:
        return one.shape == other.shape and one.dtype == other.dtype
    return torch.equal(one, other)


@contextmanager
def _refusing_changes(model: nn.Module) -> Iterator[None]:
    """Raises TrainingError if a buffer was changed inside, and puts it back: what a forward does to
    one without looking at its inputs is done as it is traced, and by no stage."""
    copies = copy_buffers([model])
    before = {name: (buffer, buffer._version) for name, buffer in model.named_buffers()}
    yield
    added = dict(model.named_buffers()).keys() - before.keys()
    changed = [
        *sorted(added),
        *(
            name
            for name, (buffer, version) in before.items()
            if attribute(model, name) is not buffer or buffer._version != version
        ),
    ]
    if changed:
        for name in added:
            holder, _, own_name = name.rpartition(".")
            delattr(model.get_submodule(holder), own_name)
        put_back(copies, [model])
        raise TrainingError(
            f"the forward of {type(model).__name__} itself changes {first_few(changed)}, which no "
            "stage would do: change it in a module that the forward calls"
        )


def _erase(graph: fx.Graph, optional: Mapping[str, Any]) -> None:
    """Takes out the optional arguments, with the checks that each has its default."""
    required = len(graph.find_nodes(op="placeholder")) - len(optional)
    doomed = dict.fromkeys(graph.find_nodes(op="placeholder")[required:])
    for node in graph.nodes:
        if node.all_input_nodes and all(value in doomed for value in node.all_input_nodes):
            doomed[node] = None
    for node in reversed(doomed):
        graph.erase_node(node)


def _named(model: nn.Module, names: Sequence[str]) -> fx.Graph:
    graph = fx.Graph()
    value = graph.placeholder("input")
    modules = dict(model.named_modules())
    for name in names:
        if name not in modules:
            raise TrainingError(
                f"pipeline_blocks() of {type(model).__name__} names '{name}', which is no module "
                f"of it; it has {first_few(sorted(filter(None, modules)))}"
            )
        value = graph.call_module(name, (value,))
    graph.output(value)
    return graph
