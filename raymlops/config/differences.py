"""In what two trees of settings differ, told to people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from raymlops.config.secret import HIDDEN, HiddenText, SecretUrl
from raymlops.config.tree import dotted, leaves


def differences(these: Any, those: Any) -> Iterator[str]:
    """ "KEY VALUE, not OTHER" for each setting that differs, such as "drift.alpha 0.01, not 0.05".

    Secrets are hidden, so two of them may look alike.
    """
    values, others = dict(leaves(these)), dict(leaves(those))
    for key in values | others:
        if (value := values.get(key)) != (other := others.get(key)):
            yield f"{dotted(key)} {_shown(value)}, not {_shown(other)}"


def _shown(value: Any) -> str:
    if isinstance(value, HiddenText):
        return HIDDEN
    return str(SecretUrl(value) if isinstance(value, str) else value)  # without a password in it
