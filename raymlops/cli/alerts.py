"""Verbs of alerts: list, silence, test, resend."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from raymlops.cli.options import (
    ConfigOption,
    EnvOption,
    HomeOption,
    JsonOption,
    SetOption,
    WhyOption,
    open_workspace,
)
from raymlops.cli.output import emit_json, emit_lines, emit_table, person
from raymlops.config import MOST_DAYS
from raymlops.errors import ConfigError

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}

_alerts = typer.Typer(help="What is wrong, and who is told of it.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    app.add_typer(_alerts, name="alerts")


@_alerts.command("list")
def list_alerts(home: HomeOption = None, env: EnvOption = None, json: JsonOption = False) -> None:
    """Show open episodes, silences, and letters that did not arrive."""
    from raymlops.monitor.alerts import AlertBook

    with open_workspace(home=home, env=env) as workspace:
        book = AlertBook(workspace.home).read()
    if json:
        emit_json(
            {
                "open": [asdict(each) for each in book.episodes],
                "silences": [asdict(each) for each in book.silences],
                "waiting": [asdict(each) for each in book.letters if not each.is_dead],
                "dead": [asdict(each) for each in book.dead],
            }
        )
        return
    emit_table(
        ("severity", "model", "what", "since", "told", "why"),
        (
            (
                each.severity,
                each.model,
                each.name,
                f"{each.started_at:%Y-%m-%d %H:%M}",
                "yes" if each.told else "no",
                each.summary,
            )
            for each in book.episodes
        ),
        if_none="nothing is wrong that anybody was to be told of; `raymlops status` tells the rest",
    )
    emit_lines(
        (
            *(
                (
                    "silence",
                    f"{each.id}: {each.model} {each.name} until {each.ends_at:%Y-%m-%d %H:%M} "
                    f"UTC, {each.why}",
                )
                for each in book.silences
            ),
            *(
                ("dead", f"{each.sink}: {each.alert.summary} ({each.dead_because})")
                for each in book.dead
            ),
        )
    )


@_alerts.command()
def silence(
    why: WhyOption,
    model: Annotated[str, typer.Option(help="The model; * is any.")] = "*",
    name: Annotated[
        str, typer.Option(help="Of the alert, such as drift, gate or replica; * is any.")
    ] = "*",
    length: Annotated[str, typer.Option("--for", help="How long, such as 90m, 2h, 3d.")] = "1h",
    end: Annotated[list[str], typer.Option(help="End this silence instead; may be repeated.")] = [],  # noqa: B006
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """Have nobody told of some alerts for a while; what outlives the silence is told then."""
    from raymlops import operate

    with open_workspace(home=home, env=env) as workspace:
        if end:
            ended = operate.end_silences(workspace, end)
            emit_json({"ended": ended}) if json else emit_lines((("ended", str(ended)),))
            return
        made = operate.silence(
            workspace, model=model, name=name, length=_length(length), who=person(), why=why
        )
    emit_json(made) if json else emit_lines(
        (("silence", f"{made.id} until {made.ends_at:%Y-%m-%d %H:%M} UTC"),)
    )


@_alerts.command("test")
def try_sinks(
    configs: ConfigOption = [],  # noqa: B006
    home: HomeOption = None,
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Send a test to every sink, and tell which took it; the status is 1 if one did not."""
    from raymlops import operate

    with open_workspace(configs, home=home, env=env, overrides=overrides) as workspace:
        problems = operate.trial(workspace)
    if json:
        emit_json(problems)
    else:
        emit_lines((sink, problem or "took it") for sink, problem in problems.items())
    if any(problems.values()):
        raise typer.Exit(1)


@_alerts.command()
def resend(
    configs: ConfigOption = [],  # noqa: B006
    home: HomeOption = None,
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Try letters once more that were given up."""
    from raymlops import operate
    from raymlops.monitor.alerts import AlertBook

    with open_workspace(configs, home=home, env=env, overrides=overrides) as workspace:
        tried = operate.open_sentinel(workspace).resend(datetime.now(UTC))
        left = len(AlertBook(workspace.home).read().letters)
    if json:
        emit_json({"tried": tried, "left": left})
    else:
        emit_lines((("tried", str(tried)), ("left", str(left))))


def _length(text: str) -> timedelta:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if match is None:
        raise ConfigError(f"'{text}' is no length; write 30s, 90m, 2h or 3d")
    length_s = float(match[1]) * _UNITS_S[match[2]]
    if not 1.0 <= length_s <= MOST_DAYS * _UNITS_S["d"]:
        raise ConfigError(f"a silence lasts a second at least and {MOST_DAYS}d at most, not {text}")
    return timedelta(seconds=length_s)
