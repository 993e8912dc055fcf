"""The packages a bundle was made with, and whether those installed now will do."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from importlib import metadata

from raymlops.errors import ModelError


class RequirementWarning(UserWarning):
    """A model runs on another major version of a package than it was made with."""


def pinned(packages: Iterable[str]) -> tuple[str, ...]:
    """`name==version` of each package as installed now.

    Raises:
        ModelError: one is not installed.
    """
    return tuple(f"{name}=={_installed(name, wanted=None)}" for name in sorted(set(packages)))


def check_requirements(requirements: Iterable[str]) -> None:
    """Returns quietly when each package is installed in the major version that was recorded.

    Warns with `RequirementWarning` when it is another one, which may predict otherwise.

    Raises:
        ModelError: a package is missing.
    """
    for line in requirements:
        name, _, wanted = line.partition("==")
        found = _installed(name, wanted=wanted)
        if wanted and found.partition(".")[0] != wanted.partition(".")[0]:
            warnings.warn(
                f"the model was made with {name} {wanted}, installed is {found}; its predictions "
                f"may differ: pip install '{line}'",
                RequirementWarning,
                stacklevel=2,
            )


def _installed(name: str, *, wanted: str | None) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError as error:
        line = f"{name}=={wanted}" if wanted else name
        raise ModelError(
            f"the model needs {line}, which is not installed: pip install '{line}'"
        ) from error
