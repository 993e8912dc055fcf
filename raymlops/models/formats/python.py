"""Plain Python: the source of the module that a function is in. Loading it runs it, of course.

    # raymlops.python/1 predict 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef
    import numpy as np

    def predict(matrix): ...

The digest in the first line is of all lines after it: a text that is cut short would often be
valid Python, and answer something else.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from types import ModuleType
from typing import Any

from raymlops.errors import ModelError
from raymlops.models.artifact import Artifact
from raymlops.models.formats.base import Facts, Format
from raymlops.models.predictors import Matrix

_MARK = "# raymlops.python/1"


class Python(Format):
    """A function of a module, which takes the matrix and gives an array: rules, lookups, glue.

    The module may import what is installed where it is loaded; its neighbours it must not need.
    """

    name = "python"
    suffixes = (".py",)
    kinds = frozenset({"python"})
    runs_code = True
    tolerance = 0.0
    packages = ()

    def facts(self, artifact: Artifact) -> Facts:
        _, source = _read(artifact.data)
        return Facts(producer=_MARK[2:], imports=tuple(sorted(set(_imports(source)))))

    def _save(self, model: Any, sample: Matrix) -> Artifact:
        if model.__qualname__ != model.__name__ or model.__name__ == "<lambda>":
            raise ModelError(
                f"python holds functions of a module, not {model.__qualname__}: define it at the "
                "top of a file of its own"
            )
        source = inspect.getsource(inspect.getmodule(model) or model)
        digest = hashlib.sha256(source.encode()).hexdigest()
        text = f"{_MARK} {model.__name__} {digest}\n{source}"
        return Artifact(format=self.name, data=text.encode())

    def _restore(self, artifact: Artifact) -> Any:
        name, source = _read(artifact.data)
        module = ModuleType(f"raymlops_python_{artifact.digest}")
        # Known by its name while its source runs and after: dataclasses look themselves up there.
        sys.modules[module.__name__] = module
        try:
            exec(compile(source, f"<model {artifact.digest[:12]}>", "exec"), module.__dict__)
        except BaseException:
            del sys.modules[module.__name__]
            raise
        return getattr(module, name)


def _read(data: bytes) -> tuple[str, str]:
    """The function's name, and the source it is in."""
    head, _, source = data.decode().partition("\n")
    mark, _, rest = head.rpartition(" ")
    mark, _, name = mark.rpartition(" ")
    if mark != _MARK:
        raise ModelError(
            f"not a python model that can be loaded: no line '{_MARK} ...' comes first"
        )
    if hashlib.sha256(source.encode()).hexdigest() != rest:
        raise ModelError("not a python model that can be loaded: it was cut short or changed")
    return name, source


def _imports(source: str) -> list[str]:
    """The modules that the source imports by statements; it could import others by calls."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or ".")
    return found
