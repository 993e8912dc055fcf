"""A bundle: everything one version of a model needs to answer, swapped as one piece."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from raymlops.data.features import Columns
from raymlops.data.profile import Profile
from raymlops.errors import ModelError
from raymlops.models.onnx import OnnxScorer
from raymlops.models.postprocessing import Postprocessing
from raymlops.models.preprocessing import Preprocessing
from raymlops.models.signature import Signature
from raymlops.storage import Store

_REQUIRED = ("numpy", "onnxruntime", "scipy")


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Preprocessing + ONNX model + postprocessing + signature + reference profile.

    Nothing in it is code: loading a bundle runs no pickle.
    """

    signature: Signature
    preprocessing: Preprocessing
    model: bytes
    postprocessing: Postprocessing
    profile: Profile
    requirements: tuple[str, ...]

    @classmethod
    def of(
        cls,
        *,
        signature: Signature,
        preprocessing: Preprocessing,
        model: bytes,
        postprocessing: Postprocessing,
        profile: Profile,
    ) -> Bundle:
        """A bundle whose requirements are the versions installed now."""
        return cls(
            signature=signature,
            preprocessing=preprocessing,
            model=model,
            postprocessing=postprocessing,
            profile=profile,
            requirements=tuple(f"{name}=={version(name)}" for name in _REQUIRED),
        )

    def save(self, store: Store) -> str:
        """Stores the bundle and returns the digest it is loaded by."""
        return store.put_tree(
            {
                "signature.json": _dumps(self.signature.to_dict()),
                "preprocessing.json": _dumps(self.preprocessing.to_dict()),
                "model.onnx": self.model,
                "postprocessing.json": _dumps(self.postprocessing.to_dict()),
                "profile.json": _dumps(self.profile.to_dict()),
                "requirements.txt": "\n".join(self.requirements).encode(),
            }
        )

    @classmethod
    def load(cls, store: Store, digest: str) -> Bundle:
        """The bundle with that digest, every byte verified.

        Raises:
            StorageError: the store lacks a part of it.
            IntegrityError: a part was changed since it was stored.
            ModelError: the tree with that digest is no bundle.
        """
        files = store.read_tree(digest)
        try:
            return cls(
                signature=Signature.from_dict(orjson.loads(files["signature.json"])),
                preprocessing=Preprocessing.from_dict(orjson.loads(files["preprocessing.json"])),
                model=files["model.onnx"],
                postprocessing=Postprocessing.from_dict(orjson.loads(files["postprocessing.json"])),
                profile=Profile.from_dict(orjson.loads(files["profile.json"])),
                requirements=tuple(files["requirements.txt"].decode().splitlines()),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"tree {digest} in {store.uri} is no bundle: {error!r}") from error

    @cached_property
    def _scorer(self) -> OnnxScorer:
        return OnnxScorer(self.model)

    def score(self, columns: Columns) -> NDArray[np.float32]:
        """Logits [rows]; the columns are not checked, see `signature.check`."""
        return self._scorer(self.preprocessing.transform(columns))

    def predict(self, columns: Columns) -> dict[str, NDArray[Any]]:
        """The output fields, each [rows].

        Raises:
            SignatureError: the columns are not what the model takes.
        """
        self.signature.check(columns)
        return self.postprocessing.apply(self.score(columns))


def _dumps(values: dict[str, Any]) -> bytes:
    return orjson.dumps(values, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)
