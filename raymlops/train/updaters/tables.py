"""Embeddings with sparse gradients: rows come when they are looked up, and go by key."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from raymlops.errors import TrainingError
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


class Lookups:
    """The rows of one table on their way: from now on they are the server's when `table` is called,
    and only then, until `close`."""

    def __init__(self, client: Client, name: str, table: Lookup) -> None:
        self._client = client
        self._name = name
        self._weight = table.weight
        self._fetched: list[torch.Tensor] = []
        # What is asked of a server is no part of a compiled graph.
        hook = torch.compiler.disable(self._pull)  # type: ignore[no-untyped-call]  # torch types it not
        self.close = table.register_forward_pre_hook(hook, with_kwargs=True).remove

    def push(self) -> None:
        """Sends the gradient; an empty one counts as a push too.

        Raises:
            TrainingError: it is of more than was looked up since the push before.
        """
        gradient, fetched = self._weight.grad, self._fetched
        self._fetched = []
        if gradient is None:
            self._client.push_rows(self._name, (), self._weight.detach()[:0].cpu().numpy())
            return
        rows = gradient.coalesce().cpu() if gradient.is_sparse else None
        if rows is None or not torch.isin(rows.indices()[0], torch.cat(fetched or [_NONE])).all():
            raise TrainingError(
                f"the loss reaches {'rows of ' if rows is not None else ''}{self._name} by another "
                "way than a call of its embedding, before which a worker fetches the rows that are "
                "looked up: others are old; look all up by calling it, or set sparse to false"
            )
        self._client.push_rows(self._name, rows.indices()[0].numpy(), rows.values().numpy())

    def _pull(self, _: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        keys = torch.unique(inputs[0] if inputs else named["input"]).long()
        known = keys.cpu()
        rows = torch.from_numpy(self._client.pull_rows(self._name, known.numpy()))
        weight = self._weight.detach()
        weight.index_copy_(0, keys, rows.to(weight.device))
        if torch.is_grad_enabled():  # others are read alone
            self._fetched.append(known)


_NONE = torch.empty(0, dtype=torch.int64)
