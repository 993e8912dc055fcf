"""A bundle: everything one version of a model needs to answer, swapped as one piece."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import orjson
from numpy.typing import NDArray

from raymlops.data.features import Column, Columns
from raymlops.data.profile import Profile
from raymlops.errors import ModelError, ParityError, UntrustedError
from raymlops.ledger import ModelVersion
from raymlops.models.artifact import Artifact
from raymlops.models.formats import Recorded, format_named, nothing_recorded
from raymlops.models.parity import check_parity
from raymlops.models.postprocessing import Postprocessing
from raymlops.models.predictors import Predictor
from raymlops.models.preprocessing import Preprocessing
from raymlops.models.requirements import check_requirements, pinned
from raymlops.models.sample import as_records, sample_columns
from raymlops.models.signature import Signature
from raymlops.storage import Store

_ALWAYS_REQUIRED = ("numpy", "scipy")
_NUM_ANSWERED_ROWS = 8

Answers = Mapping[str, tuple[Any, ...]]
"""Output fields of the bundle's own sample rows, as they were when it was made: of each row a
number, the name of a class, or a list of numbers."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Preprocessing + model + postprocessing + signature + reference profile.

    All but the model is data, and so is the model in the formats that cannot run code. In those
    that can, pickle for one, it is loaded only as `trusted`: see `of_version`.
    """

    signature: Signature
    preprocessing: Preprocessing
    model: bytes
    postprocessing: Postprocessing
    profile: Profile
    requirements: tuple[str, ...]
    format: str = "onnx"
    architecture: bytes | None = None
    answers: Answers | None = None
    trusted: bool = field(default=False, compare=False, repr=False)
    """Whether a ledger vouches for these bytes."""

    @classmethod
    def of(
        cls,
        *,
        signature: Signature,
        preprocessing: Preprocessing,
        model: bytes | Artifact,
        postprocessing: Postprocessing,
        profile: Profile,
        recorded: Recorded = nothing_recorded,
    ) -> Self:
        """A bundle whose requirements are the versions installed now.

        Args:
            model: as a format saved it; plain bytes are ONNX.
            recorded: whether the ledger vouches for the model's digest.
        """
        artifact = Artifact(format="onnx", data=model) if isinstance(model, bytes) else model
        kind = format_named(artifact.format)
        return cls(
            signature=signature,
            preprocessing=preprocessing,
            model=artifact.data,
            format=artifact.format,
            architecture=artifact.architecture,
            postprocessing=postprocessing,
            profile=profile,
            requirements=pinned((*_ALWAYS_REQUIRED, *kind.packages)),
            trusted=recorded(artifact.digest),
        )

    def with_answers(self) -> Self:
        """The same bundle with what it answers to its own sample rows, for `check_answers`."""
        outputs = self.predict(self.sample(_NUM_ANSWERED_ROWS))
        return replace(self, answers={name: _told(values) for name, values in outputs.items()})

    def save(self, store: Store) -> str:
        """Stores the bundle and returns the digest it is loaded by."""
        files = {
            "signature.json": _dumps(self.signature.to_dict()),
            "preprocessing.json": _dumps(self.preprocessing.to_dict()),
            _model_file(self.format): self.model,
            "postprocessing.json": _dumps(self.postprocessing.to_dict()),
            "profile.json": _dumps(self.profile.to_dict()),
            "requirements.txt": "\n".join(self.requirements).encode(),
            "format.json": _dumps({"format": self.format}),
        }
        if self.architecture is not None:
            files["model.architecture.json"] = self.architecture
        if self.answers is not None:
            files["answers.json"] = _dumps(dict(self.answers))
        return store.put_tree(files)

    @classmethod
    def load(cls, store: Store, digest: str, *, recorded: Recorded = nothing_recorded) -> Self:
        """The bundle with that digest, every byte verified.

        The digest is that of a list of all parts with theirs, so who vouches for it vouches for
        the model's bytes too: `recorded` is asked for the bundle's digest, and only when the
        model is of a format that can run code.

        Raises:
            StorageError: the store lacks a part of it.
            IntegrityError: a part was changed since it was stored.
            UntrustedError: its model could run code, and the digest is not recorded.
            ModelError: the tree with that digest is no bundle.
        """
        files = store.read_tree(digest)
        try:
            name = _format_name(files)
            bundle = cls(
                signature=Signature.from_dict(orjson.loads(files["signature.json"])),
                preprocessing=Preprocessing.from_dict(orjson.loads(files["preprocessing.json"])),
                model=files[_model_file(name)],
                format=name,
                architecture=files.get("model.architecture.json"),
                postprocessing=Postprocessing.from_dict(orjson.loads(files["postprocessing.json"])),
                profile=Profile.from_dict(orjson.loads(files["profile.json"])),
                requirements=tuple(files["requirements.txt"].decode().splitlines()),
                answers=_answers(files),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"tree {digest} in {store} is no bundle: {error!r}") from error
        if recorded(digest):
            return replace(bundle, trusted=True)
        if (reason := format_named(name).doubt(bundle.artifact)) is not None:
            raise UntrustedError(name, digest, reason)
        return bundle

    @classmethod
    def of_version(cls, store: Store, version: ModelVersion) -> Self:
        """The bundle of a registered version; raises what `load` raises.

        The version's row is the proof that the ledger recorded this digest: registering is the
        act by which somebody vouches for a model, and the audit chain tells who. A digest from
        anywhere else is no proof and goes through `load`.
        """
        return cls.load(store, version.bundle, recorded=version.bundle.__eq__)

    @property
    def artifact(self) -> Artifact:
        """The model alone, without what is done before and after it."""
        return Artifact(format=self.format, data=self.model, architecture=self.architecture)

    @cached_property
    def scorer(self) -> Predictor:
        """The model, loaded.

        Raises:
            UntrustedError: it could run code, and nobody vouched for it.
            ModelError: it cannot be loaded, or a package it needs is missing.
        """
        check_requirements(self.requirements)
        return format_named(self.format).load(self.artifact, recorded=lambda _: self.trusted)

    def sample(self, num_rows: int) -> dict[str, Column]:
        """Rows like those it was trained on, the same each time."""
        return sample_columns(self.signature, self.profile, num_rows)

    def sample_records(self, num_rows: int) -> list[dict[str, Any]]:
        """The same as JSON has rows."""
        return as_records(self.sample(num_rows))

    def score(self, columns: Columns) -> NDArray[Any]:
        """What the model says, [rows] or [rows, k]; the columns are not checked, see
        `signature.check`."""
        return self.scorer(self.preprocessing.transform(columns))

    def predict(self, columns: Columns) -> dict[str, NDArray[Any]]:
        """The output fields, each [rows].

        Raises:
            SignatureError: the columns are not what the model takes.
        """
        self.signature.check(columns)
        return self.postprocessing.apply(self.score(columns))

    def check_answers(self) -> int:
        """Asks for the recorded answers again and returns how many rows were compared; 0 when
        none were recorded.

        Raises:
            ParityError: the bundle answers otherwise now.
        """
        if self.answers is None:
            return 0
        label = None if self.signature.label is None else self.signature.label.name
        rows = len(next(iter(self.answers.values())))
        outputs = self.predict(self.sample(rows))
        if outputs.keys() != self.answers.keys():
            raise ParityError(f"it gives {sorted(outputs)}, recorded are {sorted(self.answers)}")
        for name, values in outputs.items():
            if name == label:  # follows from the probabilities, but where two are the largest
                continue
            check_parity(
                np.asarray(values, np.float64),
                np.array(self.answers[name]),
                # What is recorded went through JSON, as float32.
                tolerance=max(format_named(self.format).tolerance, 1e-6),
                of=f"'{name}' now",
                original="when it was made it was",
            )
        return rows


def _told(values: NDArray[Any]) -> tuple[Any, ...]:
    """`values` as JSON keeps them, those of each row together."""
    return tuple((values if values.dtype == object else values.astype(np.float64)).tolist())


def _model_file(format: str) -> str:
    return f"model{format_named(format).suffixes[0]}"


def _format_name(files: Mapping[str, bytes]) -> str:
    """Bundles from before there were several formats are ONNX."""
    if "format.json" not in files:
        return "onnx"
    return str(orjson.loads(files["format.json"])["format"])


def _answers(files: Mapping[str, bytes]) -> Answers | None:
    if "answers.json" not in files:
        return None
    return {name: tuple(row) for name, row in orjson.loads(files["answers.json"]).items()}


def _dumps(values: dict[str, Any]) -> bytes:
    return orjson.dumps(values, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)
