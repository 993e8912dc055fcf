from __future__ import annotations

from dataclasses import dataclass

from raymlops.config import SecretUrl, differences
from raymlops.config.secret import HiddenText


@dataclass(frozen=True)
class Hook:
    url: SecretUrl
    user: str


@dataclass(frozen=True)
class Site:
    every_s: float = 2.0
    ledger: str = "ledger.db"
    names: tuple[str, ...] = ()
    hook: Hook | None = None


HOOK = Hook(SecretUrl("https://x/?token=hush-hush"), HiddenText("annabel"))


def test_settings_that_are_equal_differ_in_nothing() -> None:
    assert list(differences(Site(hook=HOOK), Site(hook=HOOK))) == []


def test_both_values_of_what_differs_are_told() -> None:
    assert list(differences({"site": Site(1.0, names=("a",))}, {"site": Site()})) == [
        "site.every_s 1.0, not 2.0",
        "site.names ('a',), not ()",
    ]


def test_a_section_may_come_or_go() -> None:
    told = ["hook.url https://x/?token=***, not None", "hook.user ***, not None"]
    assert list(differences(Site(hook=HOOK), Site())) == told
    told = ["hook.url None, not https://x/?token=***", "hook.user None, not ***"]
    assert list(differences(Site(), Site(hook=HOOK))) == told


def test_what_is_secret_is_not_told() -> None:
    secret = Site(ledger="postgresql://me:hear-hear@db/x")
    assert list(differences(secret, Site())) == ["ledger postgresql://me:***@db/x, not ledger.db"]
