"""Verbs of models: list versions; inspect, convert, verify and trust files and versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raymlops.cli.options import EnvOption, HomeOption, JsonOption, WhyOption, open_workspace
from raymlops.cli.output import emit_json, emit_lines, emit_table, person

if TYPE_CHECKING:
    from raymlops.models import Inspection, Tensor

SourceArgument = Annotated[
    str, typer.Argument(help="A model's file, MODEL@VERSION or MODEL@ALIAS.", metavar="MODEL")
]
SampleOption = Annotated[
    Path | None,
    typer.Option("--sample", help="Real rows, Parquet or CSV, one column an input, in order."),
]
FormatOption = Annotated[
    str | None, typer.Option("--format", help="The file's format, where its suffix does not tell.")
]

_models = typer.Typer(
    help="Versions and files: list, inspect, convert, verify.",
    no_args_is_help=True,
)


def add_to(app: typer.Typer) -> None:
    app.add_typer(_models, name="models")


@_models.callback()
def models() -> None:
    """Versions and files: list, inspect, convert, verify."""


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
        ledger = workspace.shown_ledger
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
        if_none=(
            f"no model version is in {ledger}: `raymlops train CONFIG --data FILE` trains and "
            "registers one"
        ),
    )


@_models.command()
def inspect(
    model: SourceArgument,
    format: FormatOption = None,
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """Tell what a model is, without loading what could run code."""
    from raymlops import operate

    with open_workspace(home=home, env=env) as workspace:
        found = operate.inspect(model, workspace, format=format)
    emit_json(found) if json else emit_lines(_lines(found))


@_models.command()
def convert(
    source: SourceArgument,
    target: Annotated[Path, typer.Argument(help="The file to write; its suffix is the format.")],
    sample: SampleOption = None,
    source_format: Annotated[str | None, typer.Option("--from", help="Format of MODEL.")] = None,
    target_format: Annotated[str | None, typer.Option("--to", help="Format of TARGET.")] = None,
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """Write a model in another format, once both predict the same on real rows."""
    from raymlops.operate import convert_model

    with open_workspace(home=home, env=env) as workspace:
        written = convert_model(
            workspace,
            source,
            target,
            who=person(),
            sample=sample,
            source_format=source_format,
            target_format=target_format,
        )
    emit_json(written) if json else emit_lines(_lines(written))


@_models.command()
def verify(
    model: SourceArgument,
    sample: SampleOption = None,
    digest: Annotated[str | None, typer.Option(help="What the file's digest must be.")] = None,
    format: FormatOption = None,
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """Check a model's bytes, load it and ask it; a version must give its recorded answers."""
    from raymlops import operate

    with open_workspace(home=home, env=env) as workspace:
        found = operate.verify(workspace, model, sample=sample, digest=digest, format=format)
    if json:
        emit_json(found)
        return
    emit_lines(
        (
            ("format", found.format),
            ("digest", f"{found.digest}, {'recorded' if found.recorded else 'not recorded'}"),
            ("asked", f"{found.num_rows} rows"),
            ("as recorded", f"{found.num_answers} rows"),
        )
    )


@_models.command("trust")
def trust_(
    file: Annotated[Path, typer.Argument(help="A model's file.")],
    why: WhyOption,
    format: FormatOption = None,
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """Let exactly these bytes be loaded, although loading them can run code."""
    from raymlops.operate import trust_file

    with open_workspace(home=home, env=env) as workspace:
        decision = trust_file(workspace, file, who=person(), why=why, format=format)
    if json:
        emit_json(decision)
        return
    emit_lines(
        (("decision", str(decision.id)), ("outcome", decision.outcome), ("by", decision.who))
    )


def _lines(found: Inspection) -> list[tuple[str, str]]:
    facts = found.facts
    lines = [
        ("format", found.format),
        ("size", f"{found.size_bytes:,} bytes"),
        ("digest", found.digest),
        ("loading", found.doubt or "runs no code"),
        ("producer", facts.producer or ""),
        ("opset", "" if facts.opset is None else str(facts.opset)),
        ("parameters", "" if facts.num_parameters is None else f"{facts.num_parameters:,}"),
        ("inputs", ", ".join(map(_tensor, facts.inputs))),
        ("outputs", ", ".join(map(_tensor, facts.outputs))),
        ("imports", ", ".join(facts.imports)),
    ]
    return [(label, text) for label, text in lines if text]


def _tensor(tensor: Tensor) -> str:
    sizes = ", ".join("?" if size is None else str(size) for size in tensor.shape)
    return f"{tensor.name} {tensor.datatype} [{sizes}]"
