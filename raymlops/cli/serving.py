"""Verbs of serving: serve status; keys make, list, revoke."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raymlops.cli.options import EnvOption, HomeOption, JsonOption, SetOption, open_workspace
from raymlops.cli.output import emit_json, emit_lines, emit_table
from raymlops.errors import ConfigError

if TYPE_CHECKING:
    from raymlops.operate import Workspace
    from raymlops.serve.access import Keyring

_serve = typer.Typer(help="What serves: replicas, versions, load, latency.", no_args_is_help=True)
_keys = typer.Typer(help="Keys that let clients in (serve.keys_file).", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="Whose key it is.")]


def add_to(app: typer.Typer) -> None:
    app.add_typer(_serve, name="serve")
    app.add_typer(_keys, name="keys")


@_serve.command()
def status(
    home: HomeOption = None,
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Tell addresses, models and replicas: versions, connections, requests, latency."""
    from raymlops import serve
    from raymlops.serve.deployment.deployment import ANOTHER_CLUSTER

    with (
        open_workspace(home=home, env=env, overrides=overrides) as workspace,
        workspace.connect(),
    ):
        doors = serve.standing()
    if json:
        emit_json(doors)
        return
    if not doors:
        emit_lines((("serves", f"nothing on this cluster; {ANOTHER_CLUSTER}"),))
    for door in doors:
        listens, models = ", ".join(door["addresses"]), ", ".join(door["models"])
        emit_lines(
            (
                ("listens", listens or "nowhere"),
                ("models", models or "none"),
                ("passed on to other nodes", f"{door['relays']:,}"),
                *_certificate(door),
                *((("problem", door["problem"]),) if door.get("problem") else ()),
            )
        )
        columns = ("replica", "versions", "connections", "requests", "refused", "failed", "mean_ms")
        none = "no replica is behind this door"
        emit_table(columns, [_row(replica) for replica in door["replicas"]], if_none=none)


def _certificate(door: dict[str, Any]) -> Iterator[tuple[str, str]]:
    shown = door.get("certificate")  # of doors of earlier versions nothing is known
    if shown is not None and shown["until"] is not None:
        until = datetime.fromtimestamp(shown["until"], UTC)
        yield "certificate", f"{shown['file']}, until {until:%Y-%m-%d %H:%M} UTC"


@_keys.command()
def make(
    name: NameArgument,
    models: Annotated[
        list[str],
        typer.Option("--model", help="What it is good for; may be repeated; all by default."),
    ] = [],  # noqa: B006
    rate_per_s: Annotated[
        float, typer.Option(help="How often it may ask, at each replica; 0 is no limit.")
    ] = 0.0,
    home: HomeOption = None,
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Print a new key, once; what is kept is its digest."""
    from raymlops.serve.access import ApiKey, digest_of, new_key

    key = new_key()
    with open_workspace(home=home, env=env, overrides=overrides) as workspace:
        try:
            kept = ApiKey(
                name=name, digest=digest_of(key), models=tuple(models), rate_per_s=rate_per_s
            )
        except ValueError as error:
            raise ConfigError(str(error)) from error
        _keyring(workspace).add(kept)
    emit_json({"name": name, "key": key}) if json else emit_lines(((name, key),))


@_keys.command("list")
def list_keys(
    home: HomeOption = None,
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Tell whose keys there are, for which models and how often."""
    with open_workspace(home=home, env=env, overrides=overrides) as workspace:
        keys = _keyring(workspace).read()
    if json:
        emit_json(keys)
    else:
        rows = [(key.name, ", ".join(key.models) or "all", key.rate_per_s) for key in keys]
        none = "no key is in that file, so nobody is let in: `raymlops keys make NAME` makes one"
        emit_table(("name", "models", "rate_per_s"), rows, if_none=none)


@_keys.command()
def revoke(
    name: NameArgument,
    home: HomeOption = None,
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Let a key in no more; replicas follow within a second or two."""
    with open_workspace(home=home, env=env, overrides=overrides) as workspace:
        _keyring(workspace).revoke(name)
    emit_json({"revoked": name}) if json else emit_lines((("revoked", name),))


def _keyring(workspace: Workspace) -> Keyring:
    from raymlops.serve.access import Keyring

    path = workspace.settings.serve.keys_file
    if path is None:
        raise ConfigError(
            "serve.keys_file is not set, so everybody is let in; name a file that every node can "
            "read, e.g. --set serve.keys_file=keys.json"
        )
    return Keyring(path)


def _row(replica: dict[str, object]) -> tuple[object, ...]:
    versions = replica.get("versions")
    mean_ms = replica.get("mean_ms")
    return (
        replica["replica"],
        ", ".join(map(str, versions)) if isinstance(versions, list) else "",
        replica["connections"],
        replica.get("requests", ""),
        replica.get("refused", ""),
        replica.get("failed", ""),
        f"{mean_ms:.2f}" if isinstance(mean_ms, float) else "",
    )
