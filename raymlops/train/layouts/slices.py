"""Which linear layers of a model the tensor axis slices, found from the model or given.

    x ──► column: outputs sliced ──► elementwise, heads ──► row: inputs sliced ──► sum over workers

A pair needs one sum forward and one backward (M. Shoeybi et al., Megatron-LM, 2019).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from raymlops.errors import TrainingError
from raymlops.train.layouts.blocks import blocks_of, num_holders
from raymlops.train.plan.feasibility import Divisible
from raymlops.train.spec import Slice, TensorSpec

# Layers that work on each number alone, so that slices may pass through them.
_ELEMENTWISE = (
    nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.Dropout, nn.Identity,
)  # fmt: skip

# What the two layers of a pair are called in attention and gated feed-forward modules.
_COLUMNS = {
    "q_proj", "k_proj", "v_proj", "query", "key", "value", "wq", "wk", "wv", "to_q", "to_k", "to_v",
    "fc1", "up_proj", "gate_proj", "w1", "w3", "c_fc", "linear1",
}  # fmt: skip
_ROWS = {"out_proj", "o_proj", "wo", "to_out", "fc2", "down_proj", "w2", "c_proj", "linear2"}
_KINDS: Mapping[str, Slice] = {
    **dict.fromkeys(_COLUMNS, "column"),
    **dict.fromkeys(_ROWS, "row"),
}
_HEADS = ("num_heads", "n_heads", "n_head", "num_attention_heads", "num_key_value_heads")


@dataclass(frozen=True, kw_only=True)
class Slices:
    """Layers by name, and modules with the attributes that count attention heads."""

    layers: Mapping[str, Slice]
    heads: Mapping[str, tuple[str, ...]]

    def divisible(self, model: nn.Module) -> tuple[Divisible, ...]:
        """What the number of workers on the tensor axis must divide."""
        found = [
            Divisible(what=f"{attribute} of {name or 'the model'}", count=count)
            for name, attributes in self.heads.items()
            for attribute in attributes
            if (count := getattr(model.get_submodule(name), attribute))
        ]
        for name, kind in self.layers.items():
            layer = model.get_submodule(name)
            assert isinstance(layer, nn.Linear), "only linear layers are sliced"
            width = layer.out_features if kind == "column" else layer.in_features
            found.append(Divisible(what=f"{kind}s of {name}", count=width))
        return tuple(found)


def find_slices(model: nn.Module, spec: TensorSpec) -> Slices:
    """The slices `spec` names, or those that are found.

    Raises:
        TrainingError: a name in the spec is no linear layer of the model that can be sliced.
    """
    layers = _given(model, spec.slices) if spec.slices else dict(_found(model))
    owners = dict.fromkeys(name.rpartition(".")[0] for name in layers)
    heads = {owner: _counters(model.get_submodule(owner)) for owner in owners}
    return Slices(layers=layers, heads={owner: told for owner, told in heads.items() if told})


def _given(model: nn.Module, slices: Mapping[str, Slice]) -> dict[str, Slice]:
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    found: dict[str, Slice] = {}
    for pattern, kind in slices.items():
        matching = [name for name in linear if fnmatchcase(name, pattern)]
        if not matching:
            raise TrainingError(
                f"tensor.slices names '{pattern}', which is none of the linear layers "
                f"{', '.join(linear) or '(there are none)'}"
            )
        found |= dict.fromkeys(matching, kind)
    for name, why in _whole(model).items():
        if name in found:
            raise TrainingError(
                f"tensor.slices names {name}, which cannot be sliced: {why}; leave it out"
            )
    return found


def _whole(model: nn.Module) -> dict[str, str]:
    """By name, the layers whose parameters cannot be replaced by slices of them, and why."""
    holders = num_holders(model)
    found = {}
    for name, module in model.named_modules():
        if not (isinstance(module, nn.Linear) or _is_norm(module)):
            continue
        parameters = dict(module.named_parameters())
        tied = [each for each, parameter in parameters.items() if holders[parameter] > 1]
        if tied:
            found[name] = f"its {tied[0]} is that of another module, too"
        elif others := parameters.keys() - {"weight", "bias"}:
            found[name] = f"it is made of {', '.join(sorted(others))}"
    return found


def _found(model: nn.Module) -> Iterator[tuple[str, Slice]]:
    whole = _whole(model).keys()
    for layers in _alike(model):
        if whole.isdisjoint(layers):
            yield from layers.items()


def _alike(model: nn.Module) -> Iterator[dict[str, Slice]]:
    """Layers that are sliced together or not at all."""
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(module, nn.Sequential):
            for column, row in _pairs(module):
                yield {f"{prefix}{column}": "column", f"{prefix}{row}": "row"}
            continue
        linear = [n for n, child in module.named_children() if isinstance(child, nn.Linear)]
        if _COLUMNS.intersection(linear) and _ROWS.intersection(linear):
            yield {f"{prefix}{n}": _KINDS[n] for n in linear if n in _KINDS}


def _pairs(chain: nn.Sequential) -> Iterator[tuple[str, str]]:
    """Linear layers with nothing but elementwise ones between, two by two."""
    first: str | None = None
    for name, layer in chain.named_children():
        if isinstance(layer, nn.Linear):
            if first is not None:
                yield first, name
            first = None if first is not None else name
        elif not isinstance(layer, _ELEMENTWISE):
            first = None


def _counters(module: nn.Module) -> tuple[str, ...]:
    return tuple(name for name in _HEADS if isinstance(getattr(module, name, None), int))


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """The names that sequence and loss parallelism need, of a chain
    embedding, blocks of (norm, sliced module)..., norm, head."""

    blocks: tuple[str, ...]
    norms: tuple[str, ...]
    sliced: tuple[str, ...]
    final_norm: str
    head: str


def find_transformer(model: nn.Module, slices: Slices, spec: TensorSpec) -> Transformer:
    """The model seen as a transformer.

    Raises:
        TrainingError: it is none, or what `spec` asks for would slice a layer that is tied to
            another; says what is missing, or which.
    """
    blocks = tuple(blocks_of(model))
    children = {
        f"{block}.{name}": child
        for block in blocks
        for name, child in model.get_submodule(block).named_children()
    }
    norms = tuple(name for name, child in children.items() if _is_norm(child))
    sliced = tuple(n for n in children if any(layer.startswith(f"{n}.") for layer in slices.layers))
    outer = dict(model.named_children())
    finals = [name for name, child in outer.items() if _is_norm(child)]
    heads = [name for name, child in outer.items() if isinstance(child, nn.Linear)]
    missing = [
        what
        for what, found in (
            ("blocks with norms and sliced layers", norms and sliced),
            ("one norm behind the blocks", len(finals) == 1),
            ("one linear head", len(heads) == 1),
        )
        if not found
    ]
    if missing:
        raise TrainingError(
            f"tensor.sequence and tensor.loss need a transformer, {type(model).__name__} lacks "
            f"{', '.join(missing)}; set both to false"
        )
    _require_sliceable(model, "sequence", (*norms, *finals) if spec.sequence else ())
    _require_sliceable(model, "loss", heads if spec.loss else ())
    return Transformer(
        blocks=blocks, norms=norms, sliced=sliced, final_norm=finals[0], head=heads[0]
    )


def _require_sliceable(model: nn.Module, setting: str, names: Iterable[str]) -> None:
    whole = _whole(model)
    for name in names:
        if name in whole:
            raise TrainingError(
                f"tensor.{setting} slices {name}, which cannot be sliced: {whole[name]}; set it to "
                "false"
            )


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.LayerNorm | nn.RMSNorm)
