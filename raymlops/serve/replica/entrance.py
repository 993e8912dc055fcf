"""What a request passes on its way to a model: its key, the site it comes from, whether its answer
may come later."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from raymlops.serve.access import Gate, Keyring, owner_of
from raymlops.serve.deferred import Deferring, Results
from raymlops.serve.inference import Inference
from raymlops.serve.replica.app import model_handler
from raymlops.serve.replica.spec import ReplicaSpec
from raymlops.serve.web import Admit, Handler
from raymlops.serve.web.cors import CrossOrigin, sharing
from raymlops.storage import Files, RetryPolicy

_PROMPTLY = RetryPolicy(max_attempts=2)
"""Who asks for a result comes again, and what is to be kept is tried again for longer."""


class Entrance:
    """`handler` answers what `admit`, if any, lets in, as `spec` says.

    What asks `inference` is given to `before`, and what that returns is asked instead.
    `loops` run while it is open.
    """

    def __init__(
        self,
        spec: ReplicaSpec,
        inference: Inference,
        before: Callable[[Handler], Handler],
    ) -> None:
        max_body_bytes = spec.http.max_body_bytes
        self._deferring = Deferring(
            before(model_handler(inference, max_body_bytes=max_body_bytes)),
            Results(Files(spec.store_uri, retry=_PROMPTLY), spec.model, spec.deferred),
            model=spec.model,
            policy=spec.deferred,
            max_body_bytes=max_body_bytes,
            refused=inference.refused,
            owner=None if spec.keys_file is None else owner_of,
        )
        self._keyring = None if spec.keys_file is None else Keyring(spec.keys_file)
        self._gate = None if self._keyring is None else Gate(spec.model, self._keyring.read())
        self.handler: Handler = self._deferring
        self.admit: Admit | None = self._gate
        if spec.cors.origins:
            self.handler = CrossOrigin(self.handler, spec.cors)
            self.admit = self.admit and sharing(self.admit, spec.cors)

    def loops(self) -> dict[str, Coroutine[Any, Any, None]]:
        """By name, what has to run from now on."""
        loops = {"sweeper": self._deferring.sweep()}
        if self._keyring is not None and self._gate is not None:
            loops["keyring"] = self._keyring.watch(self._gate.trust)
        return loops

    async def close(self, timeout_s: float) -> None:
        """Waits that long for answers that were to come later."""
        await self._deferring.close(timeout_s)
