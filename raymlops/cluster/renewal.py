"""Actors that follow the settings: one made from others is replaced, under its name.

deploy ──made_from?──► actor          what it keeps lies in the ledger, or in files
   │◄──── others ─────────┘
   ├─ close, kill ──► its name is free, calls fail at their callers, who find and ask again
   └─ make ──► actor
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Protocol

from raymlops.cluster.actors import NAMESPACE, actor_class
from raymlops.config import differences, redact
from raymlops.errors import ClusterError

_ANSWER_S = 60.0
_CLOSE_S = 10.0

_logger = logging.getLogger(__name__)


class Renewable(Protocol):
    """Can be ended at any time; what its successor needs, such as a port, it frees by `close`."""

    def made_from(self) -> Mapping[str, object]:
        """The arguments of its constructor, by name."""


def renew(
    cls: type[Renewable],
    name: str,
    made_from: Mapping[str, object],
    *,
    follow: Collection[str],
    within: Collection[str] = (),
    max_concurrency: int | None = None,
    lists_calls: bool = True,
    node_id: str | None = None,
) -> None:
    """Has a detached actor `name`, made from these arguments unless there is one.

    One that is there is replaced if its arguments `follow` are others; the rest it keeps. One that
    does not say what it was made from, as those of earlier versions, is taken to differ. Where
    several renew it at the same time, the last one is followed. One whose arguments `within` are
    others is of somebody else, and is left as it is, with a warning.

    Raises:
        ClusterError: its successor does not start; one like the old takes its place.
    """
    from ray.exceptions import ActorAlreadyExistsError

    makes = actor_class(
        cls,
        name,
        get_if_exists=False,
        max_concurrency=max_concurrency,
        lists_calls=lists_calls,
        node_id=node_id,
    )
    while True:
        running = _lookup(name)
        try:
            if running is None:
                makes.remote(**made_from)
            elif follow or within:
                _follow(running, makes, name, made_from, follow, within)
        except ActorAlreadyExistsError:  # somebody else has made one since we looked
            continue
        return


def dismiss(name: str, made_from: Mapping[str, object]) -> None:
    """Ends the actor `name`, unless there is none or some of these arguments are not its own."""
    running = _lookup(name)
    if running is not None and made_from.items() <= _made_from(running).items():
        _logger.warning("actor %s ends, since none is wanted any more", name)
        _end(running)


def _follow(
    running: Any,
    makes: Any,
    name: str,
    made_from: Mapping[str, object],
    follow: Collection[str],
    within: Collection[str],
) -> None:
    before = _made_from(running)
    if before and (strange := ", ".join(_differences(before, made_from, within))):
        _logger.warning(
            "actor %s, of which a cluster has one, goes on for another place (%s): share these, or "
            "use a cluster of your own",
            name,
            strange,
        )
        return
    if all(key in before and before[key] == made_from[key] for key in follow):
        return
    change = "it does not say which it has"
    if before:
        change = ", ".join(_differences(made_from, before, follow))
    _logger.warning("actor %s is made anew for other settings: %s", name, change)
    _end(running)
    wanted = {
        key: value if key in follow else before.get(key, value) for key, value in made_from.items()
    }
    if why := _failure(makes.remote(**wanted), name):
        if before:
            makes.remote(**before)
        raise ClusterError(
            f"actor {name} does not start with other settings ({change}): {why}; correct them, "
            f"until then {'it goes on as before' if before else 'there is none'}"
        )


def _differences(
    these: Mapping[str, object], those: Mapping[str, object], keys: Collection[str]
) -> Iterator[str]:
    """In these arguments alone."""
    return differences(*({key: of.get(key) for key in keys} for of in (these, those)))


def _lookup(name: str) -> Any:
    import ray

    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return None


def _made_from(actor: Any) -> Mapping[str, Any]:
    """What it says; nothing where it cannot, or stands still."""
    import ray
    from ray.exceptions import RayError

    try:
        found = ray.get(actor.made_from.remote(), timeout=_ANSWER_S)
    except (AttributeError, RayError) as error:
        _logger.info("an actor does not say what it was made from: %r", error)
        return {}
    return {key: _as_now(value) for key, value in found.items()}


def _as_now(value: Any) -> Any:
    """Settings as this raymlops has them: those that an earlier one made come without the fields
    that are new since."""
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(map(_as_now, value))
    if not is_dataclass(value) or isinstance(value, type):
        return value
    known = {each.name: vars(value).get(each.name, MISSING) for each in fields(value) if each.init}
    return type(value)(**{name: _as_now(it) for name, it in known.items() if it is not MISSING})


def _end(actor: Any) -> None:
    import ray
    from ray.exceptions import RayError

    if hasattr(actor, "close"):
        with suppress(RayError):
            ray.get(actor.close.remote(), timeout=_CLOSE_S)
    ray.kill(actor)


def _failure(actor: Any, name: str) -> str | None:
    """What its constructor raised, None where it has started."""
    import ray
    from ray.exceptions import GetTimeoutError, RayActorError

    try:
        ray.get(actor.made_from.remote(), timeout=_ANSWER_S)
    except RayActorError as error:
        if error.actor_init_failed:
            return redact(str(error).strip().splitlines()[-1])
        _logger.info("actor %s was replaced by somebody who came later: %r", name, error)
    except GetTimeoutError:
        _logger.warning("actor %s has not started within %g s", name, _ANSWER_S)
    return None
