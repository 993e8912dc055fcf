"""The models of `fitted` in every format that holds them."""

from __future__ import annotations

from functools import cache

from raymlops.models import FORMATS, Artifact, format_named
from tests.models.fitted import fitted

NAMES = [each.name for each in FORMATS]
MODELS = {
    "sklearn": ("scaled logistic", "scaled softmax", "scaled ridge", "tree"),
    "torch": ("torch classifier", "torch regressor", "torch image"),
    "keras": ("keras classifier", "keras regressor"),
    "python": ("python rule",),
}
CASES = [
    (each.name, model) for each in FORMATS for kind in sorted(each.kinds) for model in MODELS[kind]
]
FIRST = {name: next(model for case, model in CASES if case == name) for name in NAMES}


def everything(_digest: str) -> bool:
    return True


@cache
def saved(name: str, model: str) -> Artifact:
    source = fitted(model)
    return format_named(name).save(source.model, source.rows[:200])
