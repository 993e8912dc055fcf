"""Verbs of model versions: list."""

from __future__ import annotations

import typer

from raymlops.cli.options import EnvOption, HomeOption, JsonOption, open_workspace
from raymlops.cli.output import emit_json, emit_table

_models = typer.Typer(help="Model versions.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    app.add_typer(_models, name="models")


@_models.callback()
def models() -> None:
    """Model versions."""


@_models.command("list")
def list_(home: HomeOption = None, env: EnvOption = None, json: JsonOption = False) -> None:
    """List model versions with the aliases that name them."""
    with open_workspace(home=home, env=env) as workspace:
        registry = workspace.ledger.registry
        versions = [version for name in registry.models() for version in registry.list(name)]
        named = {
            (name, move.alias): move.version
            for name in registry.models()
            for move in registry.moves(name)
        }
    aliases = {
        version: [
            alias
            for (name, alias), aliased in named.items()
            if (name, aliased) == (version.model, version.version)
        ]
        for version in versions
    }
    if json:
        emit_json([{"version": version, "aliases": aliases[version]} for version in versions])
        return
    emit_table(
        ("model", "version", "aliases", "run", "registered"),
        (
            (
                version.model,
                version.version,
                ", ".join(aliases[version]),
                version.run_id,
                f"{version.created_at:%Y-%m-%d %H:%M:%S}",
            )
            for version in versions
        ),
    )
