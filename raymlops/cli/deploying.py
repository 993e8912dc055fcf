"""Verbs that put models in service and end it: deploy, undeploy."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raymlops.cli.options import (
    ConfigOption,
    EnvOption,
    HomeOption,
    JsonOption,
    SetOption,
    open_workspace,
)
from raymlops.cli.output import emit_json, emit_lines, to_json
from raymlops.cli.signals import ended_by_signal
from raymlops.errors import ConfigError

if TYPE_CHECKING:
    from raymlops.operate import Workspace

_MAX_SHOWN = 4096
"""Characters of a row that is printed: no shell takes a million, and no reader either."""


def add_to(app: typer.Typer) -> None:
    for verb in (deploy, undeploy):
        app.command()(verb)


def deploy(
    references: Annotated[list[str], typer.Argument(help="MODEL@ALIAS or MODEL@1.2.3")],
    pool: Annotated[
        str | None,
        typer.Option(help="Serve them by the same replicas, called so (serve.pool.max_models)."),
    ] = None,
    configs: ConfigOption = [],  # noqa: B006
    home: HomeOption = None,
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Serve a version to all requests, or one of each of a pool of models; on a private Ray, until
    interrupted."""
    from raymlops import operate

    if pool is None and len(references) > 1:
        raise ConfigError(
            f"{len(references)} versions are named, and no --pool that they share: name one, or "
            "deploy them one by one"
        )
    models = [reference.partition("@")[0] for reference in references]
    with (
        open_workspace(configs, home=home, env=env, overrides=overrides) as workspace,
        workspace.connect() as session,
        operate.serving_privately(workspace.home, models) if session.owned else nullcontext(),
    ):
        if pool is None:
            deployment = operate.deploy(workspace, references[0])
            told: Any = deployment
            url = deployment.url
        else:
            url = operate.deploy_pool(workspace, pool, references)
            told = {"pool": pool, "url": url}
        emit_json(told) if json else emit_lines(_ways_to_ask(workspace, url, references))
        if session.owned:
            ended_by_signal().wait()
            for model in models:
                workspace.ledger.releases.withdraw(model)


def _ways_to_ask(
    workspace: Workspace, url: str, references: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Of each model the release that runs, its address, a line for the shell that asks it, unless
    that is too long, and a form."""
    from raymlops import operate

    key = "" if workspace.settings.serve.keys_file is None else " -H 'Authorization: Bearer KEY'"
    for reference in references:
        name = reference.partition("@")[0]
        if (running := workspace.ledger.releases.running(name)) is not None:
            yield "release", f"{running.id} goes on: {running.challenger} beside {running.champion}"
        model = f"{url}/v2/models/{name}"
        record = to_json([operate.example_record(workspace, reference)])
        yield "infer", f"POST {model}/infer"
        if len(record) <= _MAX_SHOWN:
            yield "try", f"curl -s {model}/predict{key} -d {shlex.quote(record)}"
        yield "form", f"{model}/docs"


def undeploy(
    name: Annotated[str, typer.Argument(help="A model, or with --pool a pool.")],
    pool: Annotated[bool, typer.Option("--pool", help="End the pool of that name.")] = False,
    home: HomeOption = None,
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """End the replicas of a model or pool once they have answered."""
    from raymlops import operate

    with (
        open_workspace(home=home, env=env, overrides=overrides) as workspace,
        workspace.connect(),
    ):
        end = operate.undeploy_pool if pool else operate.undeploy
        end(workspace, name)
    emit_json({"undeployed": name}) if json else emit_lines((("undeployed", name),))
