"""What decisions say of a model's health.

trigger                     its cause is wrong: performance, expected, drift or concept
recovery                    its cause is over; when none is left, nobody wants a challenger
labels  wild / tame         many are so far off that they may be broken / few are again
alias champion ->           all of these are over: another model answers
gate    refused / passed    a challenger was not good enough / the next one was
release rolled back         one was not good enough in traffic
        anything else       the next one is on its way
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from raymlops.ledger import Decision
from raymlops.monitor.alerts.episodes import Severity, Signal

PERFORMANCE, EXPECTED, DRIFT, CONCEPT = "performance", "expected", "drift", "concept"
GATE, RELEASE, LABELS = "gate", "release", "labels"
REPLICA, DISK, CERTIFICATE, LEDGER = "replica", "disk", "certificate", "ledger"

_CAUSES: Mapping[str, Severity] = {
    PERFORMANCE: "critical",
    EXPECTED: "warning",
    DRIFT: "warning",
    CONCEPT: "warning",
}
NAMES = (*_CAUSES, GATE, RELEASE, LABELS, REPLICA, DISK, CERTIFICATE, LEDGER)
"""Of all that can be wrong."""


def signals_of(decision: Decision) -> tuple[Signal, ...]:
    """None for a decision that neither begins nor ends any trouble."""
    return tuple(_signals(decision))


def _signals(decision: Decision) -> Iterator[Signal]:
    match decision.kind:
        case "trigger":
            cause = str(decision.evidence.get("cause", DRIFT))
            yield _fires(decision, cause, _CAUSES.get(cause, "warning"))
        case "recovery":
            cause = str(decision.evidence["cause"])
            yield Signal(name=cause, model=decision.model, firing=False)
            if not decision.evidence["left"]:
                for name in (GATE, RELEASE):
                    yield Signal(name=name, model=decision.model, firing=False)
        case "labels" if decision.outcome == "wild":
            yield _fires(decision, LABELS, "warning")
        case "labels":
            yield Signal(name=LABELS, model=decision.model, firing=False)
        case "alias" if decision.outcome.startswith("champion"):
            for name in (*_CAUSES, RELEASE):
                yield Signal(name=name, model=decision.model, firing=False)
        case "gate" if decision.outcome.endswith("refused"):
            yield _fires(decision, GATE, "warning")
        case "gate":
            yield Signal(name=GATE, model=decision.model, firing=False)
        case "release" if decision.outcome.endswith("rolled back"):
            yield _fires(decision, RELEASE, "critical")
        case "release":
            yield Signal(name=RELEASE, model=decision.model, firing=False)


def _fires(decision: Decision, name: str, severity: Severity) -> Signal:
    return Signal(
        name=name,
        model=decision.model,
        firing=True,
        severity=severity,
        summary=f"{decision.kind} {decision.outcome}: {decision.why}",
        evidence={"decision": decision.id, **decision.evidence},
    )
