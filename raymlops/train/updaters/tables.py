"""Embeddings with sparse gradients: rows come when they are looked up, and go by key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from raymlops.train.server.client import Client

Lookup = nn.Embedding | nn.EmbeddingBag


def find_tables(model: nn.Module) -> dict[str, Lookup]:
    """The embeddings whose gradients are sparse, by the name of their weight.

    Raises:
        ValueError: a weight is used by more than lookups.
    """
    tables = {
        f"{name}.weight".removeprefix("."): module
        for name, module in model.named_modules()
        if isinstance(module, Lookup) and module.sparse and module.weight.requires_grad
    }
    for module in tables.values():
        uses = [n for n, p in model.named_parameters(remove_duplicate=False) if p is module.weight]
        if len(uses) > 1:
            raise ValueError(
                f"{' and '.join(uses)} are one parameter with sparse gradients, of which a worker "
                "has only the rows it looked up: set sparse to false"
            )
    return tables


def pull_before_lookup(client: Client, name: str, table: Lookup) -> Callable[[], None]:
    """From now on rows are the server's when `table` is called; the function undoes it."""

    def pull(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        keys = torch.unique(inputs[0] if inputs else named["input"])
        rows = torch.from_numpy(client.pull_rows(name, keys.cpu().numpy()))
        weight = table.weight.detach()
        weight.index_copy_(0, keys.long(), rows.to(weight.device))

    # What is asked of a server is no part of a compiled graph.
    hook = torch.compiler.disable(pull)  # type: ignore[no-untyped-call]  # torch types it not
    return table.register_forward_pre_hook(hook, with_kwargs=True).remove


def push_rows(client: Client, name: str, table: Lookup) -> None:
    """Sends the gradient of `table`; an empty one counts as a push too."""
    if table.weight.grad is None:
        client.push_rows(name, (), table.weight.detach()[:0].cpu().numpy())
        return
    gradient = table.weight.grad.coalesce().cpu()
    client.push_rows(name, gradient.indices()[0].numpy(), gradient.values().numpy())
