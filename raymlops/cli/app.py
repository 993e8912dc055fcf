"""The command line: each verb parses, calls one function and prints, for people or as JSON."""

from __future__ import annotations

import sys
import traceback
from importlib.metadata import version
from typing import Annotated

import typer
from typer.models import CommandInfo, TyperInfo

from raymlops.cli import (
    alerts,
    asking,
    configuration,
    data,
    demo,
    deploying,
    drift,
    export,
    labelling,
    machines,
    mirror,
    models,
    records,
    releasing,
    runs,
    serving,
    training,
)
from raymlops.cli.examples import EXAMPLES
from raymlops.cli.output import emit_error, log_to_stderr, write_any_text
from raymlops.cli.verbs import Verbs
from raymlops.errors import NO_ROOM, RaymlopsError

_PANELS = {
    "Begin": "demo doctor up down status",
    "From rows to a model that answers": "data train tune deploy predict undeploy",
    "The next champion": "release promote rollback watch labels drift",
    "What happened, and why": "why at decisions lineage diff report runs models",
    "Around it": "submit serve bench keys alerts config ledger mirror export",
}

app = typer.Typer(
    name="raymlops",
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Exit status: 0 when it was done, 1 when it was not (the last line of stderr says why), "
    "2 when the command line is wrong, 130 when it was interrupted.",
)

for module in (
    demo, data, drift, training, deploying, releasing, labelling, runs, models, records, alerts,
    mirror, export, serving, machines, configuration, asking,
):  # fmt: skip
    module.add_to(app)


def _name(registered: CommandInfo | TyperInfo) -> str:
    return str(registered.name or getattr(registered.callback, "__name__", ""))


def _dress(app: typer.Typer) -> None:
    """Sorts the verbs into panels, and shows each with an example."""
    panels = {verb: panel for panel, verbs in _PANELS.items() for verb in verbs.split()}
    for verb in app.registered_commands:
        verb.rich_help_panel = panels[_name(verb)]
        verb.epilog = f"Example: {EXAMPLES[_name(verb)]}"
    for group in app.registered_groups:
        group.cls = Verbs
        group.rich_help_panel = panels[_name(group)]
        assert group.typer_instance is not None, "a group is a Typer"
        for verb in group.typer_instance.registered_commands:
            verb.epilog = f"Example: {EXAMPLES[f'{group.name} {_name(verb)}']}"


_dress(app)


def _tell_version(wanted: bool) -> None:
    if wanted:
        print(f"raymlops {version('raymlops')}")
        raise typer.Exit


@app.callback()
def raymlops(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Tell the version."),
    ] = False,
) -> None:
    """Train, serve, release and watch models on a plain Ray cluster."""


def main() -> None:
    """Runs the command line.

    Standard output holds the result alone: one JSON document with `--json`, for `watch` one a
    line. An error is exit status 1 and the last line of stderr; with `--json` that line is an
    object {"error": MESSAGE, "type": CLASS}. A misused command line is exit status 2 and text.
    """
    log_to_stderr()
    write_any_text()
    json = _wants_json(sys.argv[1:])
    try:
        app()
    except RaymlopsError as error:
        emit_error(error, json=json)
        sys.exit(1)
    except OSError as error:  # a folder where a file is to be, or one that takes no files
        told = error.filename is not None or error.errno in NO_ROOM
        emit_error(error, json=json, trace="" if told else traceback.format_exc())
        sys.exit(1)
    except Exception as error:  # a bug: its traceback may show what this process has to hide
        emit_error(error, json=json, trace=traceback.format_exc())
        sys.exit(1)


def _wants_json(arguments: list[str]) -> bool:
    """Whether the verb was asked for JSON; what follows `--` is for a submitted script."""
    ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in ours
