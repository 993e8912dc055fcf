"""Commands, in this process."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner, Result

from raymlops.cli.app import app

CONFIG = """
model: tumours
data:
  dataset: tumours
  target: target
  event_time: seen_at
  min_rows: 100
  features:
    - {name: mean_radius, kind: number, low: 0, high: 100}
    - {name: size, kind: category}
serve: {port: 9000}
"""


def invoke(*arguments: object) -> Result:
    """What the command came to; an error that it raised is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def run(*arguments: object) -> str:
    """What the command printed, where it did what was asked."""
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def run_json(*arguments: object) -> Any:
    return json.loads(run(*arguments, "--json"))
