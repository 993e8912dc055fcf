"""pickle and joblib: whole Python objects. Loading one runs whatever its author wished."""

from __future__ import annotations

import io
import pickle
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from raymlops.errors import ModelError, UntrustedError
from raymlops.models.artifact import Artifact
from raymlops.models.formats.base import Facts, Format, Recorded, refusing
from raymlops.models.formats.imports import expanded, holds_joblib_arrays, imported_names
from raymlops.models.predictors import Matrix
from raymlops.storage.store import file_digest

_PICKLE_MAGIC = b"\x80"  # the opcode every pickle of protocol 2 and later starts with


class Pickle(Format):
    """scikit-learn models by pickle, protocol 5."""

    name = "pickle"
    suffixes = (".pkl", ".pickle")
    kinds = frozenset({"sklearn"})
    runs_code = True
    tolerance = 0.0
    packages = ("scikit-learn",)

    def facts(self, artifact: Artifact) -> Facts:
        imports = imported_names(artifact.data)
        if holds_joblib_arrays(imports):
            raise ModelError("a joblib file, not a pickle; name it .joblib")
        return Facts(imports=imports)

    def _save(self, model: Any, sample: Matrix) -> Artifact:
        return Artifact(format=self.name, data=pickle.dumps(model, protocol=5))

    def _restore(self, artifact: Artifact) -> Any:
        return pickle.loads(artifact.data)


class Joblib(Format):
    """scikit-learn models by joblib, compressed; see `map_joblib` for those that are not."""

    name = "joblib"
    suffixes = (".joblib",)
    kinds = frozenset({"sklearn"})
    runs_code = True
    tolerance = 0.0
    packages = ("scikit-learn", "joblib")

    def __init__(self, *, compress_level: int = 3) -> None:
        if not 0 <= compress_level <= 9:
            raise ValueError(f"compress_level is {compress_level}, not within 0 and 9")
        self._compress_level = compress_level

    def facts(self, artifact: Artifact) -> Facts:
        return Facts(imports=imported_names(artifact.data))

    def _save(self, model: Any, sample: Matrix) -> Artifact:
        import joblib

        buffer = io.BytesIO()
        joblib.dump(model, buffer, compress=self._compress_level)
        return Artifact(format=self.name, data=buffer.getvalue())

    def _restore(self, artifact: Artifact) -> Any:
        import joblib

        # joblib itself does not notice that the end of a compressed file is missing.
        return joblib.load(io.BytesIO(expanded(artifact.data, limit_bytes=sys.maxsize)))


def map_joblib(path: Path, *, recorded: Recorded) -> Any:
    """The model in an uncompressed joblib file, its arrays mapped into memory and read-only.

    What is mapped is a copy nobody else can reach, checked after it was made: a file that is
    exchanged meanwhile changes nothing. The copy has no name any more when this returns, and is
    gone with the last array.

    Raises:
        UntrustedError: the digest is not recorded.
        ModelError: the file is compressed or no joblib file.
    """
    import joblib

    with tempfile.TemporaryDirectory(prefix="raymlops-mapped-") as folder:  # mode 0700
        private = Path(folder) / "model.joblib"
        shutil.copyfile(path, private)
        digest = file_digest(private)
        if not recorded(digest):
            raise UntrustedError(Joblib.name, digest, "loading it can run any code")
        with private.open("rb") as file:
            if file.read(1) != _PICKLE_MAGIC:
                raise ModelError(f"{path} is compressed or no joblib file; it cannot be mapped")
        with refusing(f"{path} is no joblib file that can be mapped"):
            return joblib.load(private, mmap_mode="r")
