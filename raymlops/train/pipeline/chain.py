"""A model as a chain of blocks, wherever exactly one tensor passes from what ran to what follows.

    tokens ─▶ embedding ─▶ blocks.0 ─▶ blocks.1 ─▶ norm ─▶ head ─▶ logits
                         │           │           │       │
                         a stage may begin at each of these

It is found in the graph of the model's forward (see `graph`), not guessed from its children's
order, so that what runs between the modules (a residual sum, a squeeze) stays where it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import fx, nn

from raymlops.errors import TrainingError
from raymlops.train.pipeline.graph import WAY_OUT, attribute, first_few, forward_graph


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
    graph = forward_graph(model)
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
            f"the forward of {type(model).__name__} does not use {first_few(unused)}: no stage "
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
        raise TrainingError(f"the forward of {type(model).__name__} calls no module; {WAY_OUT}")
    return blocks


def _block(model: nn.Module, nodes: list[fx.Node], names: Mapping[nn.Parameter, str]) -> Block:
    read: set[str] = set()
    for node in nodes:
        if node.op == "call_module":
            module = model.get_submodule(str(node.target))
            read |= {names[parameter] for parameter in module.parameters()}
        for constant in node.all_input_nodes:
            if constant.op == "get_attr":
                value = attribute(model, str(constant.target))
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
