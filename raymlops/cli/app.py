"""The command line: each verb parses, calls one function and prints, for people or as JSON."""

from __future__ import annotations

import sys
import traceback

import typer

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
from raymlops.cli.output import emit_error, log_to_stderr
from raymlops.errors import RaymlopsError

app = typer.Typer(
    name="raymlops",
    help="Train, serve, release and watch models on a plain Ray cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for module in (
    demo, data, drift, training, deploying, releasing, labelling, runs, models, records, alerts,
    mirror, export, serving, machines, configuration, asking,
):  # fmt: skip
    module.add_to(app)


def main() -> None:
    """Runs the command line.

    Standard output holds the result alone: one JSON document with `--json`, for `watch` one a
    line. An error is exit status 1 and the last line of stderr; with `--json` that line is an
    object {"error": MESSAGE, "type": CLASS}. A misused command line is exit status 2 and text.
    """
    log_to_stderr()
    json = _wants_json(sys.argv[1:])
    try:
        app()
    except RaymlopsError as error:
        emit_error(error, json=json)
        sys.exit(1)
    except OSError as error:  # a folder where a file is to be, or one that takes no files
        told = error.filename is not None
        emit_error(error, json=json, trace="" if told else traceback.format_exc())
        sys.exit(1)
    except Exception as error:  # a bug: its traceback may show what this process has to hide
        emit_error(error, json=json, trace=traceback.format_exc())
        sys.exit(1)


def _wants_json(arguments: list[str]) -> bool:
    """Whether the verb was asked for JSON; what follows `--` is for a submitted script."""
    ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in ours
