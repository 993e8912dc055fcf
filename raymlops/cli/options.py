"""The options many verbs share, and the workspace they open."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raymlops.config import literal
from raymlops.errors import ConfigError

if TYPE_CHECKING:
    from raymlops.operate import Workspace

ConfigArgument = Annotated[
    list[Path], typer.Argument(help="Configuration files; later ones win.", metavar="CONFIG...")
]
ConfigOption = Annotated[
    list[Path], typer.Option("--config", "-c", help="A configuration file; may be repeated.")
]
HomeOption = Annotated[
    Path | None, typer.Option("--home", help="Where ledger and store lie; overrides `home`.")
]
EnvOption = Annotated[
    str | None, typer.Option("--env", help="development, production, ...; overrides RAYMLOPS_ENV.")
]
SetOption = Annotated[
    list[str], typer.Option("--set", help="KEY=VALUE, e.g. serve.port=9000; may be repeated.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
WhyOption = Annotated[str, typer.Option("--why", help="The reason, kept in the ledger.")]


def open_workspace(
    configs: list[Path] | None = None,
    *,
    home: Path | None = None,
    env: str | None = None,
    overrides: list[str] | None = None,
) -> Workspace:
    """The workspace the options describe."""
    from raymlops.operate import Workspace

    given = [*(overrides or []), *([home_override(home)] if home is not None else [])]
    return Workspace.open(*(configs or []), environment=env, overrides=given)


def home_override(home: Path) -> str:
    """The assignment that makes `home` the home folder."""
    return f"home={literal(str(home))}"


def find_functions_here() -> None:
    """Has this process find the functions that a spec names in its working directory, as workers
    do."""
    sys.path.insert(0, os.getcwd())


def parse_time(text: str) -> datetime:
    """An ISO date or time; UTC unless it names a zone.

    Raises:
        ConfigError: it is neither.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"'{text}' is no time; write 2013-06-15 or 2013-06-15T12:00Z") from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def refuse(wrong: bool, why: str) -> None:
    """Raises what the command line tells of arguments that do not fit together."""
    if wrong:
        raise typer.BadParameter(why)
