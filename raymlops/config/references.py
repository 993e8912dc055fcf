"""`${env:NAME}` and `${file:PATH}` within values: found when read, resolved when built.

    url: postgresql+psycopg://raymlops:${file:/run/secrets/ledger}@db.example/raymlops
    url: ${env:RAYMLOPS_LEDGER_URL}
    host: ${env:HOST:-127.0.0.1}       # a default, for a variable that is unset or empty
    text: $${env:NAME}                 # a literal ${env:NAME}

What a reference yields is taken as it stands: it is not searched for references again, and a
default holds none. A path is relative to the file that says it, or to the working directory for
variables and `--set`. It may lead anywhere, as secrets are mounted in places like /run/secrets:
whoever writes the configuration already decides what runs. One newline at a file's end is dropped.
"""

from __future__ import annotations

import json
import logging
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raymlops.config.problems import Problems
from raymlops.config.secret import HIDDEN
from raymlops.config.variables import Variables
from raymlops.errors import ConfigError

_logger = logging.getLogger(__name__)

_OPENING = re.compile(r"\$?\$\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_FILE_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class EnvReference:
    name: str
    default: str | None = None


@dataclass(frozen=True, kw_only=True)
class FileReference:
    path: Path


Reference = EnvReference | FileReference


@dataclass(frozen=True, kw_only=True)
class Template:
    """A text with references in it, as a file wrote it: it holds no secret yet."""

    parts: tuple[str | Reference, ...]


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """What a template came to, what of that may be shown, and what must never be.

    `sources` are the variables and files it was taken from. A default stands in a configuration
    file for everybody to read, so it is no secret.
    """

    text: str = field(repr=False)
    shown: str
    secrets: tuple[str, ...] = field(repr=False)
    sources: tuple[str, ...]


def parse(value: Any, folder: Path) -> Any:
    """`value` with each text that has references, at any depth, as a `Template`.

    Raises:
        ConfigError: a reference is malformed; says how one is written.
    """
    if isinstance(value, str):
        return _parse_text(value, folder)
    if isinstance(value, list):
        return [parse(item, folder) for item in value]
    if isinstance(value, dict):
        return {name: parse(item, folder) for name, item in value.items()}
    return value


def literal(text: str) -> str:
    """`text` as the value of a variable or of `--set`, whatever characters are in it."""
    return json.dumps(text.replace("${", "$${"))


def resolve(template: Template, variables: Variables) -> Resolved:
    """The text with every reference replaced.

    Raises:
        ConfigError: lists everything that is missing, a line each.
    """
    found: list[_Piece] = []
    problems = Problems()
    for part in template.parts:
        with problems.gathered():
            found.append(_piece(part, variables))
    problems.raise_any()
    return Resolved(
        text="".join(piece.text for piece in found),
        shown="".join(HIDDEN if piece.secret else piece.text for piece in found),
        secrets=tuple(piece.text for piece in found if piece.secret),
        sources=tuple(piece.source for piece in found if piece.source),
    )


@dataclass(frozen=True, kw_only=True)
class _Piece:
    text: str
    secret: bool = False
    source: str = ""


def _parse_text(text: str, folder: Path) -> str | Template:
    parts: list[str | Reference] = []
    position = 0
    while (opening := _OPENING.search(text, position)) is not None:
        parts.append(text[position : opening.start()])
        position = opening.end()
        if opening[0] == "$${":
            parts.append("${")
            continue
        body, closed, _ = text[position:].partition("}")
        if not closed:
            raise ConfigError("a '${' is never closed by '}'; a literal one is written $${")
        parts.append(_parse_reference(body, folder))
        position += len(body) + 1
    parts.append(text[position:])
    if all(isinstance(part, str) for part in parts):
        return "".join(part for part in parts if isinstance(part, str))
    return Template(parts=tuple(part for part in parts if part != ""))


def _parse_reference(body: str, folder: Path) -> Reference:
    kind, _, rest = body.partition(":")
    if kind == "env":
        name, has_default, default = rest.partition(":-")
        if _NAME.fullmatch(name):
            return EnvReference(name=name, default=default if has_default else None)
    if kind == "file" and rest:
        return FileReference(path=folder / Path(rest).expanduser())
    raise ConfigError(
        f"'${{{body}}}' is no reference; write ${{env:NAME}}, ${{env:NAME:-DEFAULT}} or "
        "${file:PATH}, or $${ for a literal ${"
    )


def _piece(part: str | Reference, variables: Variables) -> _Piece:
    if isinstance(part, str):
        return _Piece(text=part)
    return _variable(part, variables) if isinstance(part, EnvReference) else _file(part.path)


def _variable(reference: EnvReference, variables: Variables) -> _Piece:
    found = variables.get(reference.name)
    if found is not None and found.text:
        if found.file is not None:
            _warn_if_shared(found.file)
        return _Piece(text=found.text, secret=True, source=found.origin)
    if reference.default is not None:
        return _Piece(text=reference.default, source=f"its default, as {reference.name} is not set")
    state = "is not set" if found is None else f"is empty ({found.origin})"
    raise ConfigError(
        f"variable {reference.name} {state}; export it, or write {reference.name}=... into .env"
    )


def _file(path: Path) -> _Piece:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe or a device might never end
            raise ConfigError(f"file {path} is no regular file")
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"file {path} cannot be read: {error.strerror}; put the secret there, mode 0600"
        ) from error
    if len(data) > _MAX_FILE_BYTES:
        raise ConfigError(f"file {path} is larger than {_MAX_FILE_BYTES} bytes; is it a secret?")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"file {path} is no UTF-8 text") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise ConfigError(f"file {path} is empty; put the secret there")
    _warn_if_shared(path)
    return _Piece(text=text, secret=True, source=f"file {path}")


def _warn_if_shared(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        _logger.warning("others may read %s, mode %04o: chmod 600 %s", path, mode, path)
