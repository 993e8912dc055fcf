"""What the text of a traceback says: of what another process raised, Ray hands on no more."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import raymlops
from raymlops.train.workers.traced import FRAME, untangle

_HEADER = "Traceback (most recent call last):"
_CHAINED = re.compile(
    r"\n\n(?:The above exception was the direct cause of the following exception|"
    r"During handling of the above exception, another exception occurred):\n\n"
)
_FRAME = re.compile(r'^  File "(?P<file>.+)", line (?P<line>\d+), in (?P<function>.+)$', re.M)
_LIBRARY = re.compile(
    r"^<|[/\\](?:site-packages|dist-packages|lib[/\\]python[\d.]+)[/\\]|__autograph_generated_file"
)
# What Ray adds to every death of a process, which is half a page and of nobody's in particular.
_CONJECTURE = " Some common causes include:"
# The line that says it of a page of Ray's, which ends with how Ray could be set up otherwise.
_LOW = "running low on memory"


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One call that had not returned."""

    file: str
    line: int
    function: str

    @property
    def is_of_library(self) -> bool:
        """Whether the file is of raymlops, of Python or of an installed package."""
        ours = Path(self.file).is_relative_to(Path(raymlops.__file__).parent)
        return ours or bool(_LIBRARY.search(self.file))

    def __str__(self) -> str:
        return f"in {self.function}, {self.file}:{self.line}"


@dataclass(frozen=True, kw_only=True)
class Raised:
    """One exception: its type and all lines of its message, and its frames, the innermost last."""

    message: str
    frames: tuple[Frame, ...]


class LeftBehind(Exception):
    """What a worker raised, as Python formats it: Ray hands on an error without its traceback, and
    of many a class only what `args` hold, or nothing where they are not what it is made of."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def leaving_traceback(work: Callable[[Any], None], config: Any) -> None:
    """Calls `work`.

    Raises:
        LeftBehind: `work` raised an error.
    """
    try:
        work(config)
    except Exception as error:
        raise LeftBehind(traceback.format_exc()) from error


def read_traceback(text: str) -> tuple[Raised, ...]:
    """The exceptions in a text that Python formatted, each the cause or the context of the next;
    none in another text."""
    _, header, rest = text.partition(_HEADER)
    return tuple(_chain(rest)) if header else ()


def place_of(chain: tuple[Raised, ...]) -> Frame | None:
    """The innermost frame of code that belongs to no library, of the last exception that has one;
    None where none has."""
    for raised in reversed(chain):
        for frame in reversed(raised.frames):
            if not frame.is_of_library:
                return frame
    return None


def reason_of(text: str) -> str:
    """What was raised last in a text that ends with a traceback, and where; else its last line, or
    that one which says that Ray killed for want of memory."""
    if not (chain := read_traceback(text)):
        lines = [line for line in text.strip().splitlines() if line.strip()]
        told = next((line for line in lines if _LOW in line), lines[-1] if lines else "")
        return told.partition(_CONJECTURE)[0].strip() or "no reason was given"
    place = place_of(chain)
    return chain[-1].message if place is None else f"{chain[-1].message} ({place})"


def _chain(text: str) -> Iterator[Raised]:
    for part in _CHAINED.split(text):
        lines = part.removeprefix(_HEADER).strip("\n").splitlines()
        # Frames and their source are indented, the exception is not; its message may be again.
        first = next((i for i, line in enumerate(lines) if not line.startswith(" ")), len(lines))
        frames = _frames(_FRAME, "\n".join(lines[:first]))
        message = "\n".join(lines[first:] or lines).strip()
        said, traced = untangle(message)
        frames += _frames(FRAME, traced)
        yield Raised(message=said, frames=frames)


def _frames(pattern: re.Pattern[str], text: str) -> tuple[Frame, ...]:
    return tuple(
        Frame(file=each["file"], line=int(each["line"]), function=each["function"])
        for each in pattern.finditer(text)
    )
