"""What a spec names instead of holding: a function somewhere on the Python path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from raymlops.config.configured import nearest
from raymlops.errors import TrainingError
from raymlops.train.checks import require_types

_COLLECTING = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


@dataclass(frozen=True, kw_only=True)
class Factory:
    """`call` is "package.module:function", called with `arguments` once in every worker.

    Factory(call="wine:rows", arguments={"path": "/shared/wine.csv"})

    Raises:
        ValueError: `call` is not written so.
    """

    call: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_types(self)
        module, separator, name = self.call.partition(":")
        if not (module and separator and name):
            raise ValueError(f"call is '{self.call}'; write it package.module:function")

    def make(self, *first: Any) -> Any:
        """What the function returns for `first` and the arguments.

        Raises:
            ValueError: there is no such function.
            TrainingError: it opens a file by a relative path that is not there; names the folder.
        """
        try:
            return self.function(num_first=len(first))(*first, **self.arguments)
        except FileNotFoundError as error:
            if error.filename is not None and Path(error.filename).is_absolute():
                raise
            raise TrainingError(
                f"{self.call} finds no file: {error}; it was called in {Path.cwd()}, the working "
                "directory of its process: give it an absolute path"
            ) from error

    def function(self, *, num_first: int = 0) -> Callable[..., Any]:
        """What `call` names, to be called with so many arguments before its own.

        Raises:
            ValueError: there is no such function, or its arguments are not those it takes.
        """
        module, _, name = self.call.partition(":")
        try:
            found: Any = import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
        except (ModuleNotFoundError, AttributeError) as error:
            raise ValueError(
                f"there is no {self.call}: {error}; the module must be installed on every node, or "
                "lie in the working directory of the job"
            ) from error
        if not callable(found):
            raise ValueError(f"{self.call} is a {type(found).__name__}, not a function")
        self._check_arguments(found, num_first)
        return found  # type: ignore[no-any-return]

    def _check_arguments(self, function: Callable[..., Any], num_first: int) -> None:
        try:
            parameters = signature(function).parameters
        except (TypeError, ValueError):  # some that are written in C tell nothing of what they take
            return
        named = [p for p in parameters.values() if p.kind not in _COLLECTING]
        takes = ", ".join(parameters) or "none"
        unknown = [name for name in self.arguments if name not in parameters]
        if unknown and all(p.kind is not Parameter.VAR_KEYWORD for p in parameters.values()):
            near = nearest(unknown[0], parameters)
            raise ValueError(
                f"{self.call} takes no argument '{unknown[0]}'{near} (it takes {takes})"
            )
        needed = [p.name for p in named[num_first:] if p.default is Parameter.empty]
        if missing := [name for name in needed if name not in self.arguments]:
            given = ", ".join(self.arguments) or "none"
            raise ValueError(
                f"{self.call} needs an argument '{missing[0]}' (it takes {takes}), and arguments "
                f"give {given}: add it to them, or give it a default"
            )
