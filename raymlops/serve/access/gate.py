"""Who is let in: judged by a request's head, before any of its body is read."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from raymlops.errors import RequestError
from raymlops.serve.access.bucket import TokenBucket
from raymlops.serve.access.keys import ApiKey, digest_of
from raymlops.serve.web import Admitting, Request, Response, Ticket, welcome

_OPEN = ("/v2/health/live", "/v2/health/ready")
_REMEMBERED = 1024


class Gate(Admitting):
    """Lets requests to `model` in that carry a key which is good for it, as often as that allows.

    The key comes as `Authorization: Bearer KEY` or `X-API-Key: KEY`. It is looked up by its
    digest, so that the time this takes tells nothing about the keys there are.
    """

    def __init__(
        self, model: str, keys: Sequence[ApiKey], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._model = model
        self._clock = clock
        self._keys: dict[str, ApiKey] = {}
        self._buckets: dict[ApiKey, TokenBucket] = {}
        self._welcome: dict[str, ApiKey] = {}
        self.trust(keys)

    def trust(self, keys: Sequence[ApiKey]) -> None:
        """Lets in who has one of these from now on, and nobody else."""
        now, buckets = self._clock(), self._buckets
        self._keys = {key.digest: key for key in keys}
        self._buckets = {key: buckets.get(key) or _bucket(key, now) for key in keys}
        self._welcome.clear()

    def ticket(self, head: Request) -> Ticket:
        """None lets a request with that head in; 401, 403 and 429 say why not."""
        return welcome if head.path in _OPEN else partial(self._admit, presented(head.headers))

    def _admit(self, key: str | None) -> Response | None:
        known = None if key is None else self._welcome.get(key)
        if known is not None and not known.rate_per_s:
            return None  # as nearly always
        try:
            self.check(key)
        except RequestError as error:
            refusal = Response.refusal(error)
            if error.status == 401:
                return Response.error(401, error.message, ("www-authenticate", "Bearer"))
            return refusal
        return None

    def check(self, key: str | None) -> None:
        """Returns quietly when `key` may ask now, and counts it.

        Raises:
            RequestError: 401 without a key that is known, 403 when it is not good for this model,
                429 when it asks too often.
        """
        if key is None:
            raise RequestError(401, "a key is needed: Authorization: Bearer KEY")
        known = self._welcome.get(key) or self._known(key)
        if known.rate_per_s and (wait_s := self._buckets[known].take(self._clock())):
            message = f"key '{known.name}' may ask {known.rate_per_s:g} times a second"
            raise RequestError(429, message, retry_after_s=math.ceil(wait_s))

    def _known(self, key: str) -> ApiKey:
        """Who has that key, if it is good here; remembered, which spares a hash a request."""
        known = self._keys.get(digest_of(key))
        if known is None:
            raise RequestError(401, "this key is not known")
        if not known.allows(self._model):
            raise RequestError(403, f"key '{known.name}' is not good for model '{self._model}'")
        if len(self._welcome) < _REMEMBERED:
            self._welcome[key] = known
        return known


def _bucket(key: ApiKey, now: float) -> TokenBucket:
    return TokenBucket(key.rate_per_s, key.burst or max(1.0, key.rate_per_s), now)


def presented(headers: Mapping[str, str]) -> str | None:
    """The key a request carries."""
    authorization = headers.get("authorization")
    if authorization is not None and authorization[:7].lower() == "bearer ":
        return authorization[7:].strip()
    return headers.get("x-api-key")


def owner_of(request: Request) -> str:
    """What tells the key of a request from others, and from which nobody can tell the key."""
    key = presented(request.headers)
    return "" if key is None else digest_of(key)[:32]
