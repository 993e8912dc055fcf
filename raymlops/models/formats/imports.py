"""Which Python objects a pickle would import, found without importing any.

The pickle is interpreted over inert stand-ins: whatever it would import becomes a class that
does nothing, whatever it would call returns another. This also follows names that are built on
the stack, which a search through the opcodes misses.
"""

from __future__ import annotations

import bz2
import io
import lzma
import pickle
import zlib
from collections.abc import Callable
from typing import Any, ClassVar

from raymlops.errors import ModelError

# What is read for its names alone may not cost more than this.
_MAX_EXPANDED_BYTES = 1024**3
_JOBLIB_ARRAY = "joblib.numpy_pickle.NumpyArrayWrapper"
_DECOMPRESSORS: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),  # gzip
    b"\x78": zlib.decompressobj,
    b"BZ": bz2.BZ2Decompressor,
    b"\xfd7zXZ": lzma.LZMADecompressor,
    b"\x5d\x00": lambda: lzma.LZMADecompressor(format=lzma.FORMAT_ALONE),
}


def imported_names(data: bytes) -> tuple[str, ...]:
    """Every `module.name` that unpickling would import, sorted; joblib's files too.

    Raises:
        ModelError: it is no whole pickle.
    """
    reader = _InertUnpickler(io.BytesIO(expanded(data, limit_bytes=_MAX_EXPANDED_BYTES)))
    try:
        reader.load()
    except Exception as error:  # a broken pickle raises whatever its opcodes run into
        raise ModelError(
            f"not a whole pickle or joblib file: {type(error).__name__}: {error}"
        ) from error
    return tuple(sorted(reader.names))


def holds_joblib_arrays(names: tuple[str, ...]) -> bool:
    """Whether arrays lie between the opcodes, so that only joblib can read the file."""
    return _JOBLIB_ARRAY in names


def expanded(data: bytes, *, limit_bytes: int) -> bytes:
    """`data` without the compression that joblib may have put around it.

    Raises:
        ModelError: it is cut short, or would expand to more than `limit_bytes`.
    """
    for magic, decompressor in _DECOMPRESSORS.items():
        if data.startswith(magic):
            reader = decompressor()
            try:
                whole: bytes = reader.decompress(data, limit_bytes)
            except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
                raise ModelError(f"its compression is broken: {error}") from error
            if not reader.eof:
                raise ModelError(f"it is cut short, or expands to more than {limit_bytes:,} bytes")
            return whole
    return data


class _Inert:
    """Stands for anything a pickle imports, makes or calls; remembers arguments and state."""

    origin = ""

    def __new__(cls, *_: object, **__: object) -> Any:
        return super().__new__(cls)

    def __init__(self, *arguments: object, **_: object) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __call__(self, *arguments: object, **_: object) -> _Inert:
        return _Inert(*arguments)

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, _key: object, _value: object) -> None:
        pass

    def __hash__(self) -> int:
        return id(self)

    def append(self, _value: object) -> None:
        pass

    def add(self, _value: object) -> None:
        pass

    def extend(self, _values: object) -> None:
        pass


# The Unpickler written in Python is the one that can be interpreted; joblib derives from it too.
_Unpickler: Any = pickle._Unpickler


class _InertUnpickler(_Unpickler):  # type: ignore[misc]
    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self._stream = stream
        self.names: set[str] = set()

    def find_class(self, module: str, name: str) -> type[_Inert]:
        origin = f"{module}.{name}"
        self.names.add(origin)
        return type("_Named", (_Inert,), {"origin": origin})

    def persistent_load(self, _pid: object) -> _Inert:
        return _Inert()

    def get_extension(self, code: int) -> None:
        # The original would hand out objects that were imported before, and cache stand-ins
        # for everybody else.
        self.append(self.find_class("copyreg", f"extension {code}"))

    def load_build(self) -> None:
        super().load_build()
        built = self.stack[-1]
        if isinstance(built, _Inert) and built.origin == _JOBLIB_ARRAY:
            self._skip_array(built.state)

    dispatch: ClassVar[dict[int, Any]] = {**_Unpickler.dispatch, pickle.BUILD[0]: load_build}

    def _skip_array(self, state: dict[str, Any]) -> None:
        """Steps over the array that joblib writes behind the object that describes it."""
        import numpy as np

        dtype = np.dtype(state["dtype"].arguments[0])
        if dtype.hasobject:  # joblib pickles such arrays: another pickle follows in the stream
            nested = _InertUnpickler(self._stream)
            nested.load()
            self.names |= nested.names
            return
        if state.get("numpy_array_alignment_bytes") is not None:
            self._stream.seek(self._stream.read(1)[0], io.SEEK_CUR)
        size = dtype.itemsize
        for length in state["shape"]:
            size *= length
        if size < 0 or len(self._stream.getbuffer()) - self._stream.tell() < size:
            raise EOFError("an array is cut short")
        self._stream.seek(size, io.SEEK_CUR)
