"""Follows a training through the ledger while it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable

from raymlops.ledger import open_ledger

_INTERVAL_S = 0.2


class EpochFollower:
    """Says each epoch's losses as they reach the ledger, for the length of a block."""

    def __init__(self, ledger_url: str, model: str, say: Callable[[str], None]) -> None:
        self._ledger = open_ledger(ledger_url)
        self._model = model
        self._say = say
        self._num_said = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="epochs", daemon=True)

    def __enter__(self) -> EpochFollower:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._ledger.close()

    def _follow(self) -> None:
        while not self._ended.wait(_INTERVAL_S):
            self._say_new()
        self._say_new()

    def _say_new(self) -> None:
        runs = [run for run in self._ledger.runs.list(model=self._model) if run.kind == "train"]
        if not runs:
            return
        values = {
            name: self._ledger.runs.metrics(runs[-1].id, name)
            for name in ("train_loss", "validation_loss")
        }
        epochs = list(zip(values["train_loss"], values["validation_loss"], strict=False))
        new = epochs[self._num_said :]
        for number, (train, validation) in enumerate(new, start=self._num_said + 1):
            self._say(
                f"epoch {number}: train loss {train.value:.4f}, "
                f"validation loss {validation.value:.4f}"
            )
        self._num_said = len(epochs)
