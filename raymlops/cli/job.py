"""What the driver scripts in jobs/ share: arguments, workspace, Ray."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from raymlops.cli.options import home_override
from raymlops.cli.output import emit_error, log_to_stderr
from raymlops.cli.signals import interrupted_once
from raymlops.errors import RaymlopsError
from raymlops.operate import Workspace


def job_parser(description: str | None) -> argparse.ArgumentParser:
    """Takes configuration files, --home and --set; a script adds what else it needs."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", nargs="+", type=Path, help="configuration files")
    parser.add_argument("--home", type=Path, help="where ledger and store lie")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    return parser


@contextlib.contextmanager
def open_job(arguments: argparse.Namespace) -> Iterator[Workspace]:
    """The workspace, connected to Ray: to the job's own cluster where one submitted the script,
    else as the settings say. What goes wrong ends the script, with the traceback of a bug; neither
    shows a secret. Ctrl-C ends it as it ends `raymlops`."""
    overrides = list(arguments.set)
    if arguments.home is not None:
        overrides.append(home_override(arguments.home))
    if "RAY_ADDRESS" in os.environ:
        overrides.append("cluster.address=auto")
    log_to_stderr()
    try:
        with (
            interrupted_once(),
            Workspace.open(*arguments.configs, overrides=overrides) as workspace,
            workspace.connect(),
        ):
            yield workspace
    except RaymlopsError as error:
        emit_error(error, json=False)
        sys.exit(1)
    except KeyboardInterrupt:  # what was interrupted has said so
        sys.exit(130)
    except Exception as error:  # the script's end, in a log that Ray's dashboard shows
        emit_error(error, json=False, trace=traceback.format_exc())
        sys.exit(1)
