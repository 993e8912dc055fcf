"""Environment variables, and behind them those of a `.env` file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dotenv.parser import parse_stream

from raymlops.errors import ConfigError

DOTENV = Path(".env")


@dataclass(frozen=True, kw_only=True)
class Variable:
    """A value and where it stands; `file` is the .env file, None for the environment itself."""

    text: str = field(repr=False)
    origin: str
    file: Path | None = None


Variables = Mapping[str, Variable]


def environment_variables(environ: Mapping[str, str]) -> Variables:
    return {name: Variable(text=text, origin=f"variable {name}") for name, text in environ.items()}


def dotenv_variables(path: Path = DOTENV) -> Variables:
    """The variables of a `.env` file, none where there is no such file.

    They are taken as they stand, without expanding `${...}`; the last of two equal names counts.

    Raises:
        ConfigError: names every line that is no NAME=VALUE, without showing it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):  # some keep a virtual environment in .env
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {_reason(error)}") from None
    found: dict[str, Variable] = {}
    problems = []
    for binding in parse_stream(io.StringIO(text)):
        # The parser counts blank lines before a binding as part of it.
        blank = binding.original.string
        line = binding.original.line + blank[: len(blank) - len(blank.lstrip())].count("\n")
        origin = f"{path}:{line}"
        if binding.error or (binding.key is not None and binding.value is None):
            problems.append(f"{origin}: is not NAME=VALUE")
        elif binding.key is not None and binding.value is not None:
            found[binding.key] = Variable(text=binding.value, origin=origin, file=path)
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def _reason(error: OSError | UnicodeDecodeError) -> str:
    """Why, without the bytes that a UnicodeDecodeError carries."""
    return "it is no UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error.strerror)
