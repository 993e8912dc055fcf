"""`raymlops train SPEC` and the driver scripts of layouts, on a real cluster."""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from raymlops.cli.app import app
from raymlops.cli.specs import is_spec, part
from raymlops.cluster import Session
from raymlops.demo import digits
from raymlops.errors import ConfigError, NotFoundError, PlanError, TrainingError
from raymlops.ledger import Code, Ledger
from raymlops.operate import propose_plan
from raymlops.train import KerasSpec, TrainSpec
from raymlops.train.backend import read_spec
from tests.cli.commands import run

SPEC = Path("configs/digits.yaml")
KERAS = Path("configs/digits_keras.yaml")
SHORT = ("--set", "epochs=1", "--set", "checkpoints.every_steps=10")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def over_loopback(num_validation: int) -> object:
    """The digits, for workers that were told which interface to use before they talked."""
    if os.environ.get("GLOO_SOCKET_IFNAME") != "lo":
        raise RuntimeError("GLOO_SOCKET_IFNAME is not lo")
    return digits.sources(num_validation=num_validation)


def invoke(*arguments: object) -> Result:
    """What the verb wrote to standard output, and apart from it to stderr."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.cluster
def test_a_spec_is_trained_under_the_plan_that_is_proposed(
    home: Path, ray_cluster: Session
) -> None:
    at_home = ("--home", home, "--set", f"cluster.address={ray_cluster.address}")
    # One row a batch leaves work for one of four workers, and convolutions nothing to slice.
    few = ("--set", "batch_size=1", "--set", "model.call=raymlops.demo.digits:cnn")
    chosen = ("train", SPEC, "--plan", "auto", *at_home, *SHORT, *few)
    told = invoke(*chosen, "--set", "max_steps=20")
    lines = dict(line.strip().split("  ", 1) for line in told.stdout.splitlines())
    assert lines["plan"] == "data=1"
    assert lines["why"].startswith("1 of 4 workers; ")
    assert lines["why"].endswith("and sends 0.0 MiB a step")
    assert lines["watch"] == f"raymlops runs watch {lines['run']} --home {home}"
    assert lines["steps"] == "20"
    assert 0 < float(lines["loss"]) < 10
    assert f"{lines['run']} finished, step 20 of 20: loss " in told.stderr
    document = json.loads(invoke(*chosen, "--set", "max_steps=1", "--json").stdout)
    assert document["why"] == lines["why"]
    assert document["estimate"]["sent_bytes"] == 0 < document["estimate"]["memory_bytes"]


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.endurance
def test_a_keras_spec_is_trained_by_the_same_verb(home: Path, ray_cluster: Session) -> None:
    at_home = ("--home", home, "--set", f"cluster.address={ray_cluster.address}")
    short = ("--set", "max_steps=5", "--set", "checkpoints.every_steps=0")
    told = invoke("train", KERAS, "--plan", "data=1", *at_home, *short)
    lines = dict(line.strip().split("  ", 1) for line in told.stdout.splitlines())
    assert (lines["plan"], lines["steps"]) == ("data=1", "5")
    assert 0 < float(lines["loss"]) < 10
    with Ledger(f"sqlite:///{home / 'ledger.db'}") as ledger:
        trained = ledger.runs.get(lines["run"])
        recorded = json.loads(ledger.text(trained.config_digest))
    assert (trained.model, trained.status) == ("digits-keras", "finished")
    assert recorded["framework"] == "keras"


@pytest.mark.cluster
def test_only_what_a_trainer_started_can_be_gone_on_with(home: Path, ray_cluster: Session) -> None:
    at_home = ("--home", home, "--set", f"cluster.address={ray_cluster.address}")
    with Ledger(f"sqlite:///{home / 'ledger.db'}") as ledger:
        other = ledger.runs.start(
            kind="train", model="digits", params={}, config="{}", environment="", inputs={},
            code=Code(commit="c" * 40, dirty_digest=None),
        )  # fmt: skip
        with pytest.raises(TrainingError, match=f"run {other.id} is running, as process"):
            run("train", "--resume", other.id, *at_home)
        ledger.runs.finish(other.id)
    with pytest.raises(
        TrainingError, match=f"run {other.id} keeps no checkpoints, since it is none of a spec"
    ):
        run("train", "--resume", other.id, "--plan", "data=2", *at_home)
    with pytest.raises(NotFoundError, match="no run 'digits-1'"):
        run("train", "--resume", "digits-1", *at_home)


@pytest.mark.cluster
def test_a_plan_without_room_is_refused_with_those_that_have_it(
    home: Path, ray_cluster: Session
) -> None:
    at_home = ("--home", home, "--set", f"cluster.address={ray_cluster.address}")
    with pytest.raises(PlanError, match=r"it has 6 workers \(data 6\), there is room for 4"):
        run("train", SPEC, "--plan", "data=6", *at_home)
    compressed = ("--set", "communication.compressor=int8")
    with pytest.raises(PlanError, match=r"shard is 2, but .*compressor is int8.*: use data alone"):
        run("train", SPEC, "--plan", "shard=2", *compressed, *at_home)


@pytest.mark.cluster
@pytest.mark.slow
def test_a_script_of_a_layout_trains_and_tells_what_is_its_own(
    home: Path,
    ray_cluster: Session,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--home", str(home), "--stages", "2", "--microbatches", "3", *SHORT]
    site = ["--set", f"cluster.address={ray_cluster.address}"]
    wired = ["--set", "communication.interface=lo", "--set", f"data.call={__name__}:over_loopback"]
    monkeypatch.setattr(sys, "argv", ["pipeline.py", str(SPEC), *arguments, *site, *wired])
    runpy.run_path("jobs/layouts/pipeline.py", run_name="__main__")
    told = capsys.readouterr().out
    assert "plan  pipeline=2,schedule=1f1b,microbatches=3\n" in told
    assert "steps  21\n" in told
    assert "rank 0 |" in told
    assert "rank 1 |" in told
    assert "last step: " in told
    with Ledger(f"sqlite:///{home / 'ledger.db'}") as ledger:
        trained = ledger.runs.list(model="digits")[-1]
    assert trained.status == "finished"
    assert trained.params["pipeline"]["timeline"] is True


def test_a_file_whose_model_names_a_function_is_a_spec() -> None:
    assert is_spec([SPEC])
    assert is_spec([KERAS])
    assert not is_spec([Path("configs/flights.yaml")])
    with pytest.raises(ConfigError, match="there is no configuration file nowhere"):
        is_spec([Path("nowhere.yaml")])


def test_settings_are_those_of_the_site_or_of_the_spec() -> None:
    given = ["epochs=2", "home=/shared", "model.call=a:b", "cluster.address=auto"]
    assert part(given) == (["home=/shared", "cluster.address=auto"], ["epochs=2", "model.call=a:b"])


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "name a configuration file, or a run with --resume"),
        (["configs/flights.yaml", "--plan", "data=2"], "--plan is for a spec"),
        ([str(SPEC), "--data", "rows.csv"], "--data is for a table's model"),
        ([str(SPEC), "--resume", "digits-1"], "--resume takes the spec from the run"),
        (["--resume", "digits-1", "--plan", "auto"], "--resume takes a plan, but not auto"),
        (["--resume", "digits-1", "--set", "epochs=2"], "a run keeps its spec: --resume takes no"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: list[str], why: str) -> None:
    refused = CliRunner().invoke(app, ["train", *arguments])
    assert refused.exit_code == 2
    assert why in " ".join(refused.output.replace("│", " ").split())


def test_a_search_around_a_spec_is_refused() -> None:
    """Every key of it was told as no setting, on a page of lines."""
    refused = CliRunner().invoke(app, ["tune", str(KERAS)])
    assert refused.exit_code == 2
    assert "a search is around a table's model, and this is a spec" in " ".join(
        refused.output.replace("│", " ").split()
    )


def test_wrong_keys_and_plans_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="option --set epoch"):
        run("train", SPEC, "--set", "epoch=3", "--home", tmp_path)
    with pytest.raises(ConfigError, match=r"--plan data=two: .*data is a whole number"):
        run("train", SPEC, "--plan", "data=two", "--home", tmp_path)


def test_the_framework_of_a_file_says_which_spec_it_is(tmp_path: Path) -> None:
    keras = read_spec(KERAS, overrides=["epochs=3"])
    assert isinstance(keras, KerasSpec)
    assert (keras.name, keras.epochs, keras.clip_norm) == ("digits-keras", 3, 1.0)
    assert isinstance(read_spec(SPEC), TrainSpec)
    assert isinstance(read_spec(SPEC, overrides=["framework=torch"]), TrainSpec)
    with pytest.raises(ConfigError, match=r"framework is 'jax'; it is torch or keras"):
        read_spec(SPEC, overrides=["framework=jax"])
    with pytest.raises(ConfigError, match=r"digits_keras.yaml.*loop"):
        read_spec(KERAS, overrides=["framework=torch"])
    with pytest.raises(TrainingError, match="a Keras model knows one: give a plan"):
        propose_plan(keras)
