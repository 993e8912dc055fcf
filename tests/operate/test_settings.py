"""Every text of the settings given by reference: either it stays unseen, or it is refused."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raymlops import Workspace
from raymlops.cli.output import emit_json
from raymlops.cluster import ClusterSettings, submit
from raymlops.config import Secret, redact
from raymlops.config import schema as types
from raymlops.config.tree import dotted
from raymlops.errors import ClusterError, ConfigError
from raymlops.ledger import Ledger, absolute_url, sqlite_url
from raymlops.operate.settings import SITE, Settings, load_settings
from raymlops.operate.training import training_job
from raymlops.serve import TlsFiles
from raymlops.storage import Copies

SECRET = "correct-horse-battery"
ROOT = Path(__file__).parents[2]

# What a text must be beside the secret in it, for the component that owns it to take it.
AROUND = {
    "ledger.url": "postgresql://me:{}@db/x",
    "storage.uri": "s3://key:{}@bucket/x",
    "coordination.url": "zookeeper://{}:2181/raymlops",
    "cluster.address": "{}:6379",
}

# Texts of a form of their own, which no secret has.
FORMED = {"alerts.maintenance[0].start", "alerts.maintenance[0].end"}

# What `--set` cannot reach: items of lists.
LISTS = """
serve:
  log: {inputs: true, hidden: ["${file:secret}"]}
  batch: {lengths: [8], cut_outputs: ["${file:secret}"], pad_columns: ["${file:secret}"]}
  deferred: {webhooks: ["https://${file:secret}/"]}
  cors: {origins: ["https://${file:secret}"]}
alerts:
  smtp: {recipients: ["${file:secret}"]}
  maintenance: [{start: "22:00", end: "06:00", model: "${file:secret}"}]
"""


def texts(schema: Any, key: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The key of every setting that takes any text, in the first item of a list."""
    fields = types.fields_of(schema)
    for name, kind in (fields or {}).items():
        yield from texts(kind, (*key, name))
    if fields is None and (types.is_text(schema) or types.is_secret(schema)):
        yield key
    if fields is None and types.item_of(schema, 0) is not Any:
        yield from texts(types.item_of(schema, 0), (*key, "0"))


KEYS = {dotted(key): key for key in texts(Settings)}


def assignment(name: str, reference: str) -> str:
    return f"{name}={AROUND.get(name, '{}').format(reference)}"


def test_the_walk_finds_the_texts_there_are() -> None:
    assert {"home", "ledger.url", "storage.uri", "serve.host", "model"} <= set(KEYS)
    assert {"data.dataset", "data.features[0].name"} <= set(KEYS)
    assert "data.features[0].kind" not in KEYS  # one of a few words


def test_every_text_of_the_site_stays_unseen(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lists.yaml").write_text(LISTS)
    names = [name for name, key in KEYS.items() if key[0] in SITE and name not in FORMED]
    configured = load_settings(
        [ROOT / "configs" / "flights.yaml", tmp_path / "lists.yaml"],
        overrides=[assignment(name, "${file:secret}") for name in names if "[" not in name],
    )
    workspace = Workspace(configured)
    settings = configured.settings
    held = json.dumps(dataclasses.asdict(settings), default=_reveal)
    assert held.count(SECRET) == len(names), "the settings hold them"

    seen = [repr(settings), str(settings), repr(configured), str(configured), repr(workspace)]
    seen.append(json.dumps([list(row) for row in configured.explain()], default=str))
    logging.getLogger("raymlops").warning("%s %r", settings, configured)
    emit_json([{"value": value} for _, value, _ in configured.explain()])
    seen += [caplog.text, *capsys.readouterr()]
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        provenance = training_job(workspace).provenance
        ledger.runs.start(
            kind="train", model="m", params={}, code=provenance.code, config=provenance.config,
            environment=provenance.environment, inputs={},
        )  # fmt: skip
        assert "learning_rate" in provenance.config
    seen += [path.read_bytes().decode(errors="replace") for path in tmp_path.glob("ledger.db*")]
    for text in seen:
        assert SECRET not in text
    assert redact(f"no route to {SECRET}") == "no route to ***"


@pytest.mark.parametrize("name", [name for name, key in KEYS.items() if key[0] not in SITE])
def test_no_text_of_a_model_takes_a_reference(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.yaml"
    *sections, last = KEYS[name]
    tree: Any = "${env:NAME}"
    for part in reversed([*sections, last]):
        tree = [tree] if part == "0" else {part: tree}
    path.write_text(json.dumps(tree))
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match="takes no reference") as caught:
        load_settings([path], environ={"NAME": SECRET})
    assert f"{path}:1: {name}: takes no reference" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_job_is_given_no_secret(tmp_path: Path) -> None:
    auto = ClusterSettings(address="auto")
    secret = Secret("tr0ub4dor-and-3").reveal()
    with pytest.raises(ClusterError, match=r"argument 2 of the job holds a secret") as caught:
        submit("job.py", ["--set", f"ledger.url=x://{secret}@y"], settings=auto, home=tmp_path)
    assert secret not in str(caught.value)
    with pytest.raises(ClusterError, match="variable URL of the job holds a secret"):
        submit("job.py", env={"URL": secret}, settings=auto, home=tmp_path)


def test_all_malformed_files_are_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    (tmp_path / "a.yaml").write_text("serve: [\n")
    (tmp_path / "b.yaml").write_text("home: a\nhome: b\nmodel: ${x}\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(
            [tmp_path / name for name in ("a.yaml", "none.yaml", "b.yaml")],
            environment="prod",
            overrides=["x"],
        )
    told = str(caught.value).replace(f"{tmp_path}/", "").splitlines()
    assert [line.partition(": ")[0] for line in told] == [
        "there is no environment 'prod' in configs; files", "a.yaml:2",
        "there is no configuration file none.yaml", "b.yaml:2", "b.yaml:3",
        "--set x is not KEY=VALUE, e.g. --set serve.port=9000",
    ]  # fmt: skip


@pytest.mark.parametrize("home", ["home", "home/below"])
def test_a_home_that_is_a_file_is_refused(tmp_path: Path, home: str) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(ConfigError, match=f"home is {tmp_path / home}, and {tmp_path}/home is a"):
        Workspace.open(overrides=[f"home={tmp_path / home}"])


def test_a_home_that_is_no_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As an option, or as a ledger was made there, it was a traceback.
    here = tmp_path / os.fsdecode(b"\xff")
    here.mkdir()
    monkeypatch.chdir(here)
    with pytest.raises(ConfigError, match="which is no UTF-8, and its path is written down"):
        Workspace.open()


@pytest.mark.parametrize("name", ["h\xf8me", "a#b", "100%25", "a?b", "a b"])
def test_a_url_is_made_absolute_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # MLflow made a folder h%C3%B8me beside the one that was meant.
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    url = sqlite_url(tmp_path / name / "m.db")
    assert absolute_url(url) == url
    assert absolute_url("sqlite:///m.db") == url
    written = absolute_url("sqlite+pysqlite:///m.db?timeout=5")
    assert absolute_url("sqlite://m.db") == "sqlite://m.db"  # the mirror refuses it
    assert written == url.replace("sqlite", "sqlite+pysqlite", 1) + "?timeout=5"


def test_what_actors_are_told_holds_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Replicas, which are where `raymlops up` was, looked there for all of it: with TLS nobody was
    # let in, and of a ledger each made an empty one of its own.
    monkeypatch.chdir(tmp_path)
    workspace = Workspace.open(
        overrides=[
            "ledger.url=sqlite:///own/ledger.db",
            "storage.uri=own/store",
            "serve.keys_file=keys.json",
            "serve.tls.certificate=server.pem",
            "serve.tls.key=server.key",
        ]
    )
    serve = workspace.settings.serve
    assert workspace.ledger_url == f"sqlite:///{tmp_path}/own/ledger.db"
    assert workspace.store_uri == str(tmp_path / "own" / "store")
    assert serve.keys_file == tmp_path / "keys.json"
    assert serve.tls == TlsFiles(certificate=tmp_path / "server.pem", key=tmp_path / "server.key")


def test_a_home_may_begin_with_the_folder_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In YAML or .env no shell replaces the tilde: it became a folder of that name."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Workspace.open(overrides=["home=~/models"]).home == tmp_path / "models"


def test_a_dotenv_file_sets_the_environment_and_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(
        "RAYMLOPS_ENV=production\nRAYMLOPS__SERVE__PORT=1234\nURL=x://a\n"
    )
    (tmp_path / ".env").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    configured = load_settings(overrides=["ledger.url=${env:URL}"], environ={"URL": "real://a:b@c"})
    assert configured.explain("serve.port") == (("serve.port", 1234, ".env:2"),)
    assert configured.settings.cluster.address == "auto"
    assert configured.explain("ledger.url") == (
        ("ledger.url", "***", "option --set ledger.url, variable URL"),
    )
    workspace = Workspace(configured)
    assert workspace.ledger_url == "real://a:b@c"
    assert load_settings(environ={"RAYMLOPS_ENV": "development"}).settings.serve.num_replicas == 1


def _reveal(value: object) -> str:
    return value.reveal() if isinstance(value, Secret) else str(value)


@pytest.mark.parametrize(
    ("key", "value", "most"),
    [
        ("monitor.windows.label_delay", "P99999999D", "36500 days"),
        ("monitor.windows.span", "999999999", "1177"),  # the monitor counted months for ever
        ("monitor.joins.max_age_days", "1e308", "36500"),
        ("monitor.prometheus.retention_days", "99999999", "36500"),
        ("ledger.mlflow.follow.longest_s", ".inf", "3153600000"),
        ("serve.batch.hang_after_s", "1e308", "3153600000"),
        ("serve.deferred.ttl_s", ".nan", "3153600000"),
        ("serve.http.idle_timeout_s", ".inf", "3153600000"),
        ("serve.drain_timeout_s", ".inf", "3153600000"),
        ("alerts.every_s", "1e10", "3153600000"),
        ("alerts.retry.longest_s", "1e10", "3153600000"),
        ("coordination.session_timeout_s", "1e9", "86400"),
        ("retrain.cooldown_days", "1e9", "36500"),
        ("release.min_days", "1e9", "36500"),
        ("gate.holdout_days", "99999999", "36500"),
    ],
)
def test_no_duration_is_past_what_can_be_waited_for(
    tmp_path: Path, key: str, value: str, most: str
) -> None:
    # It was taken, and overflowed when somebody waited for it, or never came to an end.
    section, _, name = key.rpartition(".")
    path = tmp_path / "model.yaml"
    lines = [f"{'  ' * depth}{part}:" for depth, part in enumerate(section.split("."))]
    path.write_text("\n".join([*lines, f"{'  ' * len(lines)}{name}: {value}"]) + "\n")
    (tmp_path / "base.yaml").write_text("{}\n")
    (tmp_path / "development.yaml").write_text("{}\n")
    with pytest.raises(ConfigError, match=f"{path}:.*{section}.*{name} is .*at most {most}"):
        load_settings([path], environ={})


@pytest.mark.parametrize(
    ("uri", "size_mb", "kept"),
    [
        ("s3://models/raymlops?region=us-east-1", 4096, True),
        ("hdfs://namenode:8020/raymlops", 4096, True),
        ("s3://models/raymlops?region=us-east-1", 0, False),
        ("file:///mnt/raymlops", 4096, False),
    ],
)
def test_nodes_keep_copies_of_a_store_that_lies_elsewhere(
    tmp_path: Path, uri: str, size_mb: int, kept: bool
) -> None:
    overrides = (f"home={tmp_path}", f"storage.uri={uri}", f"storage.copies_mb={size_mb}")
    with Workspace.open(overrides=overrides) as workspace:
        copies = workspace.copies
    expected = Copies(folder=tmp_path / "copies", max_bytes=4096 << 20)
    assert copies == (expected if kept else None)
