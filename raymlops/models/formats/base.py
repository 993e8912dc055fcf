"""The contract of a format: save, load with the trust check, describe without running anything."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any, ClassVar

from raymlops.errors import ModelError, UntrustedError
from raymlops.models.artifact import Artifact
from raymlops.models.parity import check_parity
from raymlops.models.predictors import (
    Kind,
    Matrix,
    Predictor,
    kind_of,
    mode_kept,
    predictor_of,
)

Recorded = Callable[[str], bool]
"""Whether the ledger recorded a digest, and so vouches for exactly these bytes."""


def nothing_recorded(_digest: str) -> bool:
    """Vouches for nothing: only formats that hold data alone can be loaded."""
    return False


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An input or an output; None is a size that is free."""

    name: str
    datatype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a format can tell of a file without loading it; None or empty where it cannot.

    `imports` are the names of the Python objects that loading would import.
    """

    producer: str | None = None
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    opset: int | None = None
    num_parameters: int | None = None
    imports: tuple[str, ...] = ()


class Format(ABC):
    """A way to keep a model as bytes.

    `save` and `restore` are the same for all: what a format cannot hold is refused before, what
    comes back differently after it was written, and what could run code unless it was recorded.
    A format gives `_save`, `_restore` and `facts`, and need not know any of that.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    """Of file names; the first is the one written."""
    kinds: ClassVar[frozenset[Kind]]
    """Whose models it can hold."""
    runs_code: ClassVar[bool]
    """Whether a file that was made to harm could run code when it is loaded."""
    tolerance: ClassVar[float]
    """What a prediction that comes back may differ by, relative above 1."""
    packages: ClassVar[tuple[str, ...]]
    """The distributions that loading needs."""
    extra: ClassVar[str | None] = None
    """The extra of raymlops that installs them."""
    architecture_apart: ClassVar[bool] = False

    def save(self, model: Any, sample: Matrix) -> Artifact:
        """`model` as bytes, after they were loaded again and predicted the same on `sample`.

        Args:
            sample: real rows, [rows, width], at least two.

        Raises:
            ModelError: the format cannot hold this model; says what it is about it.
            ParityError: a prediction differs by more than `tolerance`.
        """
        self._require()
        kind = kind_of(model)
        if kind not in self.kinds:
            raise ModelError(
                f"{self.name} holds models of {', '.join(sorted(self.kinds))}, not "
                f"{type(model).__name__}" + (f" of {kind}" if kind != "scorer" else "")
            )
        with mode_kept(model):
            with refusing(f"{self.name} cannot hold this {type(model).__name__}"):
                artifact = self._save(model, sample)
                # The digest need not be recorded: the bytes were written by this very call.
                outputs = predictor_of(self._restore(artifact))(sample)
            wanted = predictor_of(model)(sample)
        check_parity(
            outputs,
            wanted,
            tolerance=self.tolerance,
            of=self.name,
            original="the original",
        )
        return artifact

    def restore(self, artifact: Artifact, *, recorded: Recorded) -> Any:
        """The model itself, as its library knows it.

        Raises:
            UntrustedError: loading could run code and the digest is not recorded.
            ModelError: the bytes are not of this format, are cut short, or hold what it refuses.
        """
        self._require()
        with refusing(f"not a {self.name} model that can be loaded"):
            reason = self.doubt(artifact)
            if reason is not None and not recorded(artifact.digest):
                raise UntrustedError(self.name, artifact.digest, reason)
            return self._restore(artifact)

    def load(self, artifact: Artifact, *, recorded: Recorded) -> Predictor:
        """What `restore` gives, ready to be asked; raises the same."""
        return predictor_of(self.restore(artifact, recorded=recorded))

    def describe(self, artifact: Artifact) -> Facts:
        """What can be told without loading what could run code.

        Raises:
            ModelError: the bytes are not of this format.
        """
        with refusing(f"not a {self.name} model that can be read"):
            return self.facts(artifact)

    def doubt(self, artifact: Artifact) -> str | None:
        """Why these bytes may be loaded only when they are recorded; None when they cannot harm."""
        return "loading it can run any code" if self.runs_code else None

    @abstractmethod
    def facts(self, artifact: Artifact) -> Facts: ...

    @abstractmethod
    def _save(self, model: Any, sample: Matrix) -> Artifact: ...

    @abstractmethod
    def _restore(self, artifact: Artifact) -> Any: ...

    def _require(self) -> None:
        for package in self.packages:
            try:
                metadata.version(package)
            except metadata.PackageNotFoundError as error:
                way = f"raymlops[{self.extra}]" if self.extra else package
                raise ModelError(
                    f"{self.name} needs {package}, which is not installed: pip install '{way}'"
                ) from error


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turns whatever a library raises over a model it cannot handle into a ModelError."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # the libraries' errors share no base but Exception
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"{what}: {text or type(error).__name__}") from error
