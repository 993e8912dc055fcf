"""Episodes: what is wrong from when it began until it is over, told once and once again at its end.

              firing            silence over, or none            not firing, or nobody said
    (nothing) ───────► open ───────────────────────► told ──────────────────────────► resolved
                         │                             │ worse: told again               │
                         └── not firing: forgotten     └── firing again: nothing         └─► told

A pure state machine: signals and time go in, alerts to be told come out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

Severity = Literal["info", "warning", "critical"]
Status = Literal["firing", "resolved"]

SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")


@dataclass(frozen=True, kw_only=True)
class Signal:
    """What is, or is no longer, wrong with `model`; `name` says with what of it, such as drift."""

    name: str
    model: str
    firing: bool
    severity: Severity = "warning"
    summary: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """The same for everything that is one episode."""
        return hashlib.sha256(f"{self.name}\0{self.model}".encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One trouble with one model; `told` is the severity that was told last, None before."""

    fingerprint: str
    name: str
    model: str
    severity: Severity
    summary: str
    evidence: Mapping[str, Any]
    started_at: datetime
    seen_at: datetime
    told: Severity | None = None
    ended_at: datetime | None = None

    @property
    def id(self) -> str:
        """Names this episode among all of its fingerprint; sinks may tell repetitions by it."""
        return f"{self.fingerprint}-{self.started_at:%Y%m%dT%H%M%S%f}"


@dataclass(frozen=True, kw_only=True)
class Alert:
    """What sinks are told of an episode."""

    id: str
    fingerprint: str
    status: Status
    severity: Severity
    name: str
    model: str
    summary: str
    evidence: Mapping[str, Any]
    started_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, episode: Episode) -> Alert:
        return cls(
            id=episode.id,
            fingerprint=episode.fingerprint,
            status="firing" if episode.ended_at is None else "resolved",
            severity=episode.severity,
            name=episode.name,
            model=episode.model,
            summary=episode.summary,
            evidence=episode.evidence,
            started_at=episode.started_at,
            ended_at=episode.ended_at,
        )


Quiet = Callable[[Episode], bool]
"""Whether nobody wants to hear of an episode right now."""


def advance(
    episodes: Sequence[Episode],
    signals: Sequence[Signal],
    now: datetime,
    *,
    quiet: Quiet = lambda _: False,
    resolve_after: timedelta | None = None,
) -> tuple[tuple[Episode, ...], tuple[Alert, ...]]:
    """The open episodes after `signals`, and what is to be told of them.

    One that no signal has renewed for `resolve_after` is over. An episode that was quiet all its
    life is never told; one that outlives its silence is told then. The end of one that was told is
    never kept back: whoever repeats it, such as Alertmanager, is not to go on.
    """
    open_now = {episode.fingerprint: episode for episode in episodes}
    over: list[Episode] = []
    for signal in signals:
        known = open_now.get(signal.fingerprint)
        if signal.firing:
            open_now[signal.fingerprint] = _fired(known, signal, now)
        elif known is not None:
            over.append(replace(open_now.pop(signal.fingerprint), ended_at=now))
    for episode in tuple(open_now.values()):
        if resolve_after is not None and now - episode.seen_at >= resolve_after:
            over.append(replace(open_now.pop(episode.fingerprint), ended_at=now))
    alerts = [Alert.of(episode) for episode in over if episode.told is not None]
    for episode in tuple(open_now.values()):
        if _is_news(episode) and not quiet(episode):
            open_now[episode.fingerprint] = replace(episode, told=episode.severity)
            alerts.append(Alert.of(episode))
    return tuple(open_now.values()), tuple(alerts)


def _fired(known: Episode | None, signal: Signal, now: datetime) -> Episode:
    """The episode with what was seen now; it never becomes less severe before it is over."""
    if known is None:
        return Episode(
            fingerprint=signal.fingerprint,
            name=signal.name,
            model=signal.model,
            severity=signal.severity,
            summary=signal.summary,
            evidence=signal.evidence,
            started_at=now,
            seen_at=now,
        )
    return replace(
        known,
        severity=max(known.severity, signal.severity, key=SEVERITIES.index),
        summary=signal.summary,
        evidence=signal.evidence,
        seen_at=now,
    )


def _is_news(episode: Episode) -> bool:
    if episode.told is None:
        return True
    return SEVERITIES.index(episode.severity) > SEVERITIES.index(episode.told)
