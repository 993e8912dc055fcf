from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from raymlops.cli.app import app
from raymlops.cli.asking import RowsTold
from raymlops.errors import ConfigError, DataError, ExpectationError, NotFoundError, QueryError
from raymlops.ledger import Code, Ledger
from raymlops.models import Postprocessing, Signature
from raymlops.operate import Workspace
from raymlops.serve import TrafficTable

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


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tumours.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def table(tmp_path: Path, tumours: pa.Table) -> Path:
    path = tmp_path / "tumours.parquet"
    pq.write_table(tumours, path)
    return path


def run(*arguments: object) -> str:
    """What the command printed; its error is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def run_json(*arguments: object) -> Any:
    return json.loads(run(*arguments, "--json"))


@pytest.fixture
def registered(home: Path, config: Path, table: Path) -> str:
    """Two versions of a model whose data was added; the run's id."""
    run("data", "add", table, config, "--home", home)
    with Ledger(f"sqlite:///{home / 'ledger.db'}") as ledger:
        started = ledger.runs.start(
            kind="train",
            model="tumours",
            params={},
            code=Code(commit="c" * 40, dirty_digest=None),
            config="{}",
            environment="python",
            inputs={"train": ledger.datasets.get("tumours")},
        )
        ledger.runs.log(started.id, {"log_loss": 0.123456})
        signature = Signature(inputs=(), outputs=Postprocessing(label="benign").outputs).to_json()
        for _ in range(2):
            ledger.registry.register("tumours", bundle="b", signature=signature, run_id=started.id)
    return started.id


def test_help_names_every_verb() -> None:
    shown = run("--help")
    for verb in (
        "demo", "data", "train", "tune", "deploy", "undeploy", "promote", "rollback", "release",
        "labels",
        "watch", "runs", "models", "decisions", "why", "at", "lineage", "diff", "report", "up",
        "status", "down", "doctor", "submit", "config",
    ):  # fmt: skip
        assert f" {verb} " in shown


def test_the_help_tells_the_exit_status_and_the_version() -> None:
    assert "Exit status: 0 when it was done" in run("--help")
    assert run("--version") == f"raymlops {version('raymlops')}\n"


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("models show", "'models' has convert, inspect, list, trust, verify. Did you mean 'data"),
        ("models promote", "'models' has convert, inspect, list, trust, verify. Did you mean 'pro"),
        ("config shwo", "No such command 'config shwo'. Did you mean 'config show'?"),
        ("verify", "No such command 'verify'. Did you mean 'models verify', 'ledger verify'?"),
        ("releases", "No such command 'releases'. Did you mean 'release'?"),
        ("xyz", "No such command 'xyz'. 'raymlops' has alerts, at, bench,"),
    ],
)
def test_an_unknown_verb_is_answered_with_those_that_may_be_meant(typed: str, told: str) -> None:
    found = CliRunner().invoke(app, typed.split())
    assert found.exit_code == 2
    assert told in " ".join(found.output.replace("\u2502", "").split())


def test_a_shell_is_told_the_verbs_that_begin_so() -> None:
    asked = {"_RAYMLOPS_COMPLETE": "complete_bash", "COMP_WORDS": "raymlops de", "COMP_CWORD": "1"}
    told = CliRunner().invoke(app, [], prog_name="raymlops", env=asked)
    assert sorted(told.output.split()) == ["decisions", "demo", "deploy"]


@pytest.mark.parametrize("verb", ["train", "tune"])
def test_without_data_it_is_told_before_ray_starts(
    verb: str, home: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Workspace, "connect")
    with pytest.raises(
        NotFoundError, match=r"no dataset tumours; .* `raymlops data add FILE CONFIG"
    ):
        run(verb, config, "--home", home)


@pytest.mark.usefixtures("registered")
def test_rows_that_cannot_be_predicted_are_told_before_ray_starts(
    home: Path, table: Path, tmp_path: Path, tumours: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Workspace, "connect")
    labelled = tmp_path / "labelled.parquet"
    pq.write_table(tumours.append_column("benign", tumours["target"]), labelled)
    for source, target, reason in (
        (table, tmp_path, "exists; nothing is overwritten"),
        (labelled, tmp_path / "out", "have a column 'benign' already"),
        (tmp_path / "none.parquet", tmp_path / "out", "there is no .*none.parquet"),
    ):
        with pytest.raises(DataError, match=reason):
            run("predict", "tumours@1.0.1", source, target, "--home", home)
    with pytest.raises(NotFoundError, match=r"2\.0\.0"):
        run("predict", "tumours@2.0.0", table, tmp_path / "out", "--home", home)


def test_rows_that_are_done_are_told_every_so_often(capsys: pytest.CaptureFixture[str]) -> None:
    """A long prediction stood there without a word until its end."""
    times = iter([0.0, 1.0, 10.0, 10.0, 19.0, 21.0, 21.0])
    tell = RowsTold(lambda: next(times))
    for num_done in (1_000, 2_000, 3_000, 4_000):
        tell(num_done, 5_000)
    assert capsys.readouterr().err == "2,000 of 5,000 rows\n4,000 of 5,000 rows\n"


def test_data_is_added_and_listed(home: Path, config: Path, table: Path) -> None:
    added = run_json("data", "add", table, config, "--home", home, "--description", "all")
    assert (added["name"], added["version"], added["num_rows"]) == ("tumours", 1, 569)
    (listed,) = run_json("data", "list", "--home", home)
    assert listed == added
    assert "tumours" in run("data", "list", "--home", home)


def test_rows_that_were_added_before_are_known(home: Path, config: Path, table: Path) -> None:
    add = ("data", "add", table, config, "--home", home, "--description")
    assert "known" not in run(*add, "all")
    known = run(*add, "all of them")
    assert "known  since 20" in known
    assert "UTC: these rows are that version already, and it stays described as 'all'" in known
    assert run_json(*add, "all")["version"] == 1


def test_a_status_says_whose_it_is(home: Path) -> None:
    """In another folder than that of yesterday all looked well."""
    assert f"home  {home}" in " ".join(run("status", "--home", home).split("\n"))


@pytest.mark.parametrize(
    "verb",
    ["status", "runs list", "runs best loss --minimize", "data list", "models list", "decisions",
     "alerts list", "keys list", "ledger verify", "why r", "at 2026-01-01", "lineage a@1",
     "diff a b", "config show", "down"],
)  # fmt: skip
def test_whoever_only_reads_makes_no_folder(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the wrong folder each left an empty ledger, which looked like one that had lost its rows.
    monkeypatch.chdir(tmp_path)
    CliRunner().invoke(app, verb.split())
    assert list(tmp_path.iterdir()) == []


def test_a_broken_file_is_refused(home: Path, config: Path, table: Path, tumours: pa.Table) -> None:
    pq.write_table(tumours.slice(0, 10), table)
    with pytest.raises(ExpectationError, match="at least 100 rows' is broken by 90 of 10 rows"):
        run("data", "add", table, config, "--home", home)


@pytest.mark.parametrize(
    ("verb", "next_step"),
    [
        (
            ("models", "list"),
            "no model version is in the ledger sqlite:///{home}/ledger.db: `raymlops",
        ),
        (
            ("data", "list"),
            "no dataset is in the ledger sqlite:///{home}/ledger.db: `raymlops data add",
        ),
        (("runs", "list"), "no run is in the ledger sqlite:///{home}/ledger.db: `raymlops train"),
        (("runs", "list", "--kind", "trial"), "no run of the ledger sqlite:///{home}/ledger.db is"),
        (("status",), "none in the ledger sqlite:///{home}/ledger.db: `raymlops train"),
        (("alerts", "list"), "nothing is wrong that anybody was to be told of"),
    ],
)
def test_an_empty_list_says_of_what_and_what_to_do(
    home: Path, verb: tuple[str, ...], next_step: str
) -> None:
    # Headings alone told nobody that this was another ledger than he meant.
    assert next_step.format(home=home) in run(*verb, "--home", home)


def test_runs_are_listed_with_the_loss_that_their_kind_has(home: Path, registered: str) -> None:
    # Trials have no log loss, and were listed without any result.
    with Ledger(f"sqlite:///{home / 'ledger.db'}") as ledger:
        trial = ledger.runs.start(
            kind="trial", model="tumours", params={}, code=Code(commit="c", dirty_digest=None),
            config="{}", environment="", inputs={},
        )  # fmt: skip
        ledger.runs.log(trial.id, {"train_loss": 0.5, "validation_loss": 0.25})
    listed = run("runs", "list", "--home", home)
    assert "validation_loss 0.2500" in listed
    assert "log_loss 0.1235" in listed


def test_champions_are_promoted_and_rolled_back(home: Path, registered: str) -> None:
    run("promote", "tumours@1.0.0", "--why", "first", "--home", home)
    run("promote", "tumours@1.0.1", "--why", "better", "--home", home)
    assert [row["aliases"] for row in run_json("models", "list", "--home", home)] == [
        [],
        ["champion"],
    ]
    moved = run_json("rollback", "tumours", "--why", "it was not", "--home", home)
    assert moved["version"] == {"major": 1, "minor": 0, "patch": 0}
    shown = run("at", "tumours", "--home", home)
    assert "tumours 1.0.0" in shown
    assert "it was not" in shown
    run("promote", "tumours@1.0.1", "--why", "it is again", "--home", home)
    with Ledger(f"sqlite:///{home / 'ledger.db'}") as ledger:
        ledger.releases.publish("tumours", TrafficTable.champion("tumours", "1.0.1").to_dict())
    told = run("promote", "tumours@1.0.0", "--why", "once more", "--home", home)
    until = "until `watch` sees this or `raymlops deploy tumours@champion`"
    assert told == f"champion  tumours 1.0.0\n traffic  1.0.1, {until}\n"
    told = run("promote", "tumours@1.0.1", "--why", "it is again", "--home", home)
    assert told == "champion  tumours 1.0.1\n"
    told = run("rollback", "tumours", "--why", "it is not", "--home", home)
    assert "traffic  goes to 1.0.0, in about 20 s at every replica" in told
    told = run("decisions", "tumours", "--home", home)
    assert told.index("first") < told.index("better") < told.index("it was not")
    with Ledger(f"sqlite:///{home / 'ledger.db'}") as ledger:
        (made, *_) = ledger.decisions.list(model="tumours")
        ledger.decisions.add(
            model="tumours", kind="gate", outcome="1.0.1 refused", who="me", why="worse",
            evidence={}, event_time=datetime(2013, 7, 5, tzinfo=UTC),
        )  # fmt: skip
    told = run("decisions", "tumours", "--home", home)
    assert f"{made.at:%Y-%m-%d %H:%M} alias  champion -> 1.0.0: first" in told
    assert "gate  1.0.1 refused: worse (in the data's time 2013-07-05)" in told


def test_runs_and_lineage_are_shown(home: Path, registered: str) -> None:
    assert "0.1235" in run("runs", "list", "--home", home)
    assert run_json("runs", "list", "--home", home)[0]["metrics"] == {"log_loss": 0.123456}
    lines = run("why", "tumours@1.0.1", "--home", home)
    assert registered in lines
    assert "tumours version 1, 569 rows" in lines
    assert run_json("why", "tumours@1.0.1", "--home", home)["run"]["id"] == registered


def test_runs_are_searched_compared_and_judged(
    home: Path, registered: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Ledger(f"sqlite:///{home / 'ledger.db'}") as ledger:
        other = ledger.runs.start(
            kind="train",
            model="tumours",
            params={"epochs": 3},
            code=Code(commit="d" * 40, dirty_digest=None),
            config="{}",
            environment="python",
            inputs={},
        )
        ledger.runs.log(other.id, {"log_loss": 0.5})
        ledger.runs.tag(other.id, {"team": "a"})
        ledger.runs.attach(other.id, "plot.png", "a" * 64, 12345)
        for run_id in (registered, other.id):
            ledger.runs.finish(run_id)

    def found(*arguments: object) -> list[str]:
        rows = run_json("runs", "list", "--home", home, *arguments)
        return [row["run"]["id"] for row in rows]

    assert found("--where", "metrics.log_loss > 0.2 and tags.team = 'a'") == [other.id]
    assert found("--sort", "metrics.log_loss desc") == [other.id, registered]
    assert found("--sort", "metrics.log_loss", "--limit", 1) == [registered]
    assert found("--status", "lost") == []
    with pytest.raises(QueryError, match="'loss' is no column"):
        found("--where", "loss < 3")

    # Nothing was told of a name that no run has: no run was found, or they came unsorted.
    for asked in (
        ("--where", "metrics.logloss < 3 or tags.team = 'b'"),
        ("--sort", "metrics.loss"),
    ):
        found(*asked)
    assert caplog.messages == [
        "no run has metrics.logloss; metrics there are: log_loss",
        "no run has metrics.loss; metrics there are: log_loss",
    ]

    best = run_json("runs", "best", "log_loss", "--minimize", "--home", home)
    assert (best["run"]["id"], best["log_loss"]) == (registered, 0.123456)
    assert other.id in run("runs", "best", "log_loss", "--maximize", "--home", home)
    for wrong in ([], ["--maximize", "--minimize"]):
        result = CliRunner().invoke(app, ["runs", "best", "log_loss", *wrong])
        assert result.exit_code == 2
        assert "--maximize or --minimize, one of" in " ".join(result.output.split())

    shown = run("runs", "show", other.id, "--home", home)
    assert "artifact  plot.png: aaaaaaaaaaaa, 12,345 bytes" in shown
    assert run_json("runs", "show", registered, "--home", home)["versions"] == [
        "tumours 1.0.0", "tumours 1.0.1",
    ]  # fmt: skip
    both = ("runs", "compare", registered, other.id, "--differing", "--home", home)
    assert "params.epochs" in run(*both)
    names = [f"{row['group']}.{row['name']}" for row in run_json(*both)["rows"]]
    assert names == ["params.epochs", "metrics.log_loss", "tags.team", "inputs.train"]
    told = run("diff", registered, other.id, "--home", home)
    assert "log_loss: 0.123456 -> 0.5" in told
    assert run_json("diff", "tumours@1.0.0", "tumours@1.0.1", "--home", home)["rows"] == []


def test_lineage_is_shown_both_ways(home: Path, registered: str) -> None:
    down = run("lineage", "tumours@1", "--home", home)
    assert f"tumours 1.0.1, by {registered}" in down
    assert f"tumours version 1, given to {registered}" in run(
        "lineage", "tumours@1.0.0", "--home", home
    )
    assert len(run_json("lineage", "tumours", "--home", home)["versions"]) == 2


def test_what_is_not_there_is_an_error(home: Path, registered: str) -> None:
    with pytest.raises(NotFoundError, match="no prediction for request 'abc'"):
        run("why", "abc", "--home", home)
    with pytest.raises(ConfigError, match="'soon' is no time; write 2013-06-15"):
        run("at", "tumours", "soon", "--home", home)
    for verb in ("decisions", "report"):
        with pytest.raises(NotFoundError, match="no model 'tumuors', but tumours"):
            run(verb, "tumuors", "--home", home)


def test_config_tells_where_a_setting_comes_from(config: Path) -> None:
    (port,) = run_json("config", "explain", "serve.port", "-c", config)
    assert port == {"key": "serve.port", "value": 9000, "origin": f"{config}:11"}
    (host,) = run_json("config", "explain", "serve.host", "--set", "serve.host=0.0.0.0")
    assert host["origin"] == "option --set serve.host"
    with pytest.raises(ConfigError, match=r"did you mean 'serve.port'\?"):
        run("config", "explain", "serve.prot")


def test_names_that_nothing_could_ask_for_are_refused(config: Path) -> None:
    # They were trained and made champion, and could neither be deployed nor removed.
    config.write_text(CONFIG.replace("model: tumours", "model: a@b"))
    with pytest.raises(ConfigError, match=r"model 'a@b' cannot be part of a URL, nor of NAME@VER"):
        run("config", "check", config)
    config.write_text(CONFIG.replace("dataset: tumours", "dataset: ../x"))
    with pytest.raises(ConfigError, match=r"dataset '\.\./x' cannot be part of a URL"):
        run("config", "check", config)


def test_every_shipped_configuration_is_valid() -> None:
    for environment in ("development", "production"):
        run("config", "explain", "serve", "--env", environment, "-c", "configs/flights.yaml")
    with pytest.raises(ConfigError, match="there is no environment 'prod'"):
        run("config", "explain", "serve", "--env", "prod")


def test_a_cluster_that_was_not_started_is_told(home: Path) -> None:
    assert "not running" in run("status", "--home", home)
    assert "none was started from this home" in run("down", "--home", home)


def test_the_doctor_names_what_it_looked_at(home: Path) -> None:
    subjects = {finding["subject"] for finding in run_json("doctor", "--home", home)}
    assert {"python", "ray", "torch", "tensorflow"} <= {subject.lower() for subject in subjects}
