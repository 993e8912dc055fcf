from __future__ import annotations

import pytest

from raymlops.ledger import Ledger, Run


def test_what_the_ledger_recorded_is_known_and_nothing_else(ledger: Ledger, run: Run) -> None:
    bundle, artifact, manifest, unknown = ("a" * 64, "b" * 64, "m" * 64, "f" * 64)
    assert ledger.is_recorded(manifest)  # of the dataset `run` was started with
    assert not ledger.is_recorded(bundle)
    ledger.registry.register("tumours", bundle=bundle, signature="{}", run_id=run.id)
    ledger.runs.attach(run.id, "model.pkl", artifact, 7)
    assert ledger.is_recorded(bundle)
    assert ledger.is_recorded(artifact)
    assert not ledger.is_recorded(unknown)


def test_a_digest_is_trusted_by_a_decision(ledger: Ledger) -> None:
    decision = ledger.trust("f" * 64, who="ann", why="built by our own pipeline")
    assert ledger.is_recorded("f" * 64)
    assert (decision.kind, decision.who, decision.why) == (
        "trust", "ann", "built by our own pipeline",
    )  # fmt: skip
    assert ledger.trust("f" * 64, who="bob", why="again") == decision
    assert ledger.decisions.list(kind="trust") == [decision]


@pytest.mark.parametrize(
    ("digest", "who", "why", "problem"),
    [
        ("F" * 64, "ann", "why", "is no SHA-256"),
        ("f" * 63, "ann", "why", "is no SHA-256"),
        ("f" * 64, "", "why", "needs a name and a reason"),
        ("f" * 64, "ann", "  ", "needs a name and a reason"),
    ],
)
def test_a_digest_is_not_trusted_without_name_and_reason(
    ledger: Ledger, digest: str, who: str, why: str, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        ledger.trust(digest, who=who, why=why)
    assert ledger.decisions.list() == []
