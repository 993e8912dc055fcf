"""A model as a chain of blocks, wherever exactly one tensor passes from what ran to what follows.

    tokens ─▶ embedding ─▶ blocks.0 ─▶ blocks.1 ─▶ norm ─▶ head ─▶ logits
                         │           │           │       │
                         a stage may begin at each of these

The chain is found by tracing the model's forward, not guessed from its children's order, so that
what runs between the modules (a residual sum, a squeeze) stays where it was. A model whose forward
cannot be traced names its blocks itself: see `Chained`.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol, runtime_checkable

import torch
from torch import fx, nn

from raymlops.errors import TrainingError
from raymlops.train.loop.buffers import copy_buffers, put_back
from raymlops.train.loop.modes import keeping_modes

_WAY_OUT = "give the model a method pipeline_blocks() that names its modules in order"


@runtime_checkable
class Chained(Protocol):
    """A model that names its own chain: its forward calls these modules in this order, each on
    what the one before gave, and does nothing else."""

    def pipeline_blocks(self) -> Sequence[str]:
        """Names of modules, as in `named_modules`, such as `["embedding", "blocks.0", "head"]`."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A piece of the chain that is never cut, named by its first module.

    `parameters` are the names of all it reads.
    """

    name: str
    nodes: tuple[fx.Node, ...]
    parameters: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The blocks of `model` in order; together they read every parameter once.

    `shared` names the parameters that several places read, which are in one block for that.
    """

    model: nn.Module
    graph: fx.Graph
    blocks: tuple[Block, ...]
    shared: tuple[str, ...]

    def part(self, start: int, stop: int) -> nn.Module:
        """A module of the blocks from `start` to before `stop`.

        It shares the model's modules, under the names they have in the model. All parts but the
        first take one tensor, all but the last give one. The first holds what is saved of the model
        though no block reads it.
        """
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        if start == 0:
            for node in self.graph.find_nodes(op="placeholder"):
                copies[node] = graph.node_copy(node)
            for name in _unread_buffers(self.model, self.graph):
                graph.get_attr(name)
        else:
            received = graph.placeholder("activation")
            # What was received is a leaf, and the first layers may want to change it in place.
            copies[self._passed_to(start)] = graph.call_method("clone", (received,))
        for node in (node for block in self.blocks[start:stop] for node in block.nodes):
            for constant in node.all_input_nodes:
                if constant.op == "get_attr" and constant not in copies:
                    copies[constant] = graph.node_copy(constant)
            copies[node] = graph.node_copy(node, lambda node: copies[node])
        if stop == len(self.blocks):
            graph.node_copy(self.graph.output_node(), lambda node: copies[node])
        else:
            graph.output(graph.call_function(to_send, (copies[self._passed_to(stop)],)))
        return _module_of(self.model, graph)

    def _passed_to(self, start: int) -> fx.Node:
        """What the block at `start` gets from the one before."""
        before = {node for block in self.blocks[:start] for node in block.nodes}
        (passed,) = _live(before, [node for block in self.blocks[start:] for node in block.nodes])
        return passed


def find_chain(model: nn.Module) -> Chain:
    """The chain of `model`, cut as finely as its forward allows.

    Blocks that share a parameter are one block with all between them, since a parameter lives in
    one stage.

    Raises:
        TrainingError: there is none, or parameters would belong to no stage; says the way out.
    """
    graph = _named(model, model.pipeline_blocks()) if isinstance(model, Chained) else _trace(model)
    (given,) = graph.output_node().args
    if not isinstance(given, fx.Node):
        raise TrainingError(
            f"the forward of {type(model).__name__} returns not one tensor but what holds several, "
            "and the last stage gives one: return that, such as all outputs side by side"
        )
    pieces = _cut(model, graph)
    blocks = _join_shared(model, pieces)
    used = frozenset[str]().union(*(block.parameters for block in blocks))
    names = _names_of_parameters(model)
    unused = sorted(name for parameter, name in names.items() if name not in used)
    if unused:
        raise TrainingError(
            f"the forward of {type(model).__name__} does not use {_first_few(unused)}: no stage "
            "would hold or train them; remove them from the model"
        )
    readers = Counter(name for piece in pieces for name in piece.parameters)
    shared = tuple(sorted(name for name, number in readers.items() if number > 1))
    return Chain(model=model, graph=graph, blocks=blocks, shared=shared)


def to_send(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` in memory of its own, row by row: another process reads the bytes as they lie, and
    a split backward detaches what was sent, which a view does not allow."""
    return (
        tensor.clone(memory_format=torch.contiguous_format)
        if tensor._is_view()
        else (tensor.contiguous())
    )


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
                f"the forward of {type(model).__name__} cannot be followed ({error}); {_WAY_OUT}"
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
            if _attribute(model, name) is not buffer or buffer._version != version
        ),
    ]
    if changed:
        for name in added:
            holder, _, own_name = name.rpartition(".")
            delattr(model.get_submodule(holder), own_name)
        put_back(copies, [model])
        raise TrainingError(
            f"the forward of {type(model).__name__} itself changes {_first_few(changed)}, which no "
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
                f"of it; it has {_first_few(sorted(filter(None, modules)))}"
            )
        value = graph.call_module(name, (value,))
    graph.output(value)
    return graph


def _cut(model: nn.Module, graph: fx.Graph) -> list[Block]:
    """A block begins at each module before which one value is alive."""
    nodes = [node for node in graph.nodes if node.op not in ("placeholder", "get_attr", "output")]
    pieces: list[list[fx.Node]] = []
    before: set[fx.Node] = set()
    for index, node in enumerate(nodes):
        begins = node.op == "call_module" and len(_live(before, nodes[index:])) == 1
        # What runs before the first module belongs to its block.
        if not pieces or (begins and any(n.op == "call_module" for n in pieces[-1])):
            pieces.append([])
        pieces[-1].append(node)
        before.add(node)
    names = _names_of_parameters(model)
    blocks = [_block(model, piece, names) for piece in pieces]
    if not blocks:
        raise TrainingError(f"the forward of {type(model).__name__} calls no module; {_WAY_OUT}")
    return blocks


def _block(model: nn.Module, nodes: list[fx.Node], names: Mapping[nn.Parameter, str]) -> Block:
    read: set[str] = set()
    for node in nodes:
        if node.op == "call_module":
            module = model.get_submodule(str(node.target))
            read |= {names[parameter] for parameter in module.parameters()}
        for constant in node.all_input_nodes:
            if constant.op == "get_attr":
                value = _attribute(model, str(constant.target))
                if isinstance(value, nn.Parameter):
                    read.add(names[value])
    called = [str(node.target) for node in nodes if node.op == "call_module"]
    return Block(
        name=called[0] if called else nodes[0].name,
        nodes=tuple(nodes),
        parameters=frozenset(read),
    )


def _join_shared(model: nn.Module, blocks: list[Block]) -> tuple[Block, ...]:
    """Joins blocks that read the same parameter, and all between them."""
    joined: list[Block] = []
    for block in blocks:
        shared = [i for i, earlier in enumerate(joined) if earlier.parameters & block.parameters]
        start = min(shared, default=len(joined))
        pieces = [*joined[start:], block]
        joined[start:] = [
            Block(
                name=pieces[0].name,
                nodes=tuple(node for piece in pieces for node in piece.nodes),
                parameters=frozenset[str]().union(*(piece.parameters for piece in pieces)),
            )
        ]
    return tuple(joined)


def _live(before: set[fx.Node], after: Sequence[fx.Node]) -> set[fx.Node]:
    """Values that pass from `before` to `after`; inputs of the model that are read after count."""
    read = {value for node in after for value in node.all_input_nodes}
    # What the model gives is read last of all.
    read |= {value for node in after for user in node.users if user.op == "output"
             for value in user.all_input_nodes}  # fmt: skip
    produced = set(after)
    return {value for value in read if value not in produced and value.op != "get_attr"}


def _module_of(model: nn.Module, graph: fx.Graph) -> nn.Module:
    part = fx.GraphModule(model, graph)
    part.training = model.training
    # GraphModule makes every tensor of the model itself a buffer that is saved.
    part._non_persistent_buffers_set |= part._buffers.keys() - model.state_dict().keys()
    _name_again(model, part)
    return part


def _name_again(model: nn.Module, part: fx.GraphModule) -> None:
    """Gives modules that learn all their names in the model: GraphModule knows the first alone."""
    held = {id(module) for module in part.modules() if next(module.parameters(), None) is not None}
    there = {name for name, _ in part.named_modules(remove_duplicate=False)}
    for name, module in model.named_modules(remove_duplicate=False):
        if id(module) in held and name not in there:
            part.add_submodule(name, module)


def _unread_buffers(model: nn.Module, graph: fx.Graph) -> list[str]:
    """The buffers that are saved with the model, and neither read by the graph nor part of what it
    calls."""
    saved = model.state_dict()
    read = {str(node.target) for node in graph.nodes if node.op in ("get_attr", "call_module")}
    return [
        name
        for name, _ in model.named_buffers()
        if name in saved and not any(f"{name}.".startswith(f"{each}.") for each in read)
    ]


def _names_of_parameters(model: nn.Module) -> dict[nn.Parameter, str]:
    """The first name of each; a shared parameter has several."""
    return {parameter: name for name, parameter in model.named_parameters()}


def _attribute(model: nn.Module, name: str) -> Any:
    value: Any = model
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _first_few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
