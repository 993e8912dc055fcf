from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from raymlops.config import (
    Configured,
    build,
    environment_layer,
    file_layer,
    merge,
    override_layer,
)
from raymlops.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Column:
    name: str
    kind: str = "number"


@dataclass(frozen=True, kw_only=True)
class Server:
    host: str = "127.0.0.1"
    port: int = 8000
    shares: tuple[float, ...] = (0.1, 0.5)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port is {self.port}, not within 0 and 65535")


@dataclass(frozen=True, kw_only=True)
class Settings:
    name: str = "none"
    server: Server = field(default_factory=Server)
    columns: tuple[Column, ...] = ()
    backup: Server | None = None


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def load(*paths: Path, environ: dict[str, str] | None = None, sets: tuple[str, ...] = ()) -> (
    Configured[Settings]
):  # fmt: skip
    layers = [*map(file_layer, paths), environment_layer(environ or {}), override_layer(sets)]
    return build(Settings, merge(layers))


def test_later_layers_win_key_by_key(tmp_path: Path) -> None:
    base = write(tmp_path, "base.yaml", "name: base\nserver:\n  host: a\n  port: 1\n")
    more = write(tmp_path, "more.yaml", "server:\n  port: 2\n")
    settings = load(base, more).settings
    assert settings == Settings(name="base", server=Server(host="a", port=2))
    environ = {"RAYMLOPS__SERVER__PORT": "3", "HOME": "/"}
    assert load(base, more, environ=environ).settings.server.port == 3
    changed = load(base, more, environ=environ, sets=("server.port=4",))
    assert changed.settings.server.port == 4


def test_merging_leaves_its_inputs_alone(tmp_path: Path) -> None:
    base = file_layer(write(tmp_path, "base.yaml", "server: {port: 1}\ncolumns: [{name: a}]\n"))
    before = dict(base.values)
    merge([base, override_layer(["server.port=2", "columns=[]"])])
    assert base.values == before


def test_a_list_is_replaced_as_a_whole(tmp_path: Path) -> None:
    base = write(tmp_path, "base.yaml", "server: {shares: [0.1, 0.2, 0.3]}\n")
    assert load(base, sets=("server.shares=[0.5]",)).settings.server.shares == (0.5,)


def test_a_section_given_as_a_value_replaces_the_section(tmp_path: Path) -> None:
    base = write(tmp_path, "base.yaml", "backup: {port: 1}\n")
    assert load(base, sets=("backup=null",)).settings.backup is None


def test_every_value_tells_where_it_was_set(tmp_path: Path) -> None:
    base = write(tmp_path, "base.yaml", "# first\nserver:\n  port: 1\n")
    configured = load(base, environ={"RAYMLOPS__NAME": "x"}, sets=("server.shares=[0.5]",))
    assert configured.explain("server") == (
        ("server.host", "127.0.0.1", "default"),
        ("server.port", 1, f"{base}:3"),
        ("server.shares", (0.5,), "option --set server.shares=[0.5]"),
    )
    assert configured.explain("name") == (("name", "x", "variable RAYMLOPS__NAME"),)
    with pytest.raises(ConfigError, match=r"no setting 'server.prot'; did you mean 'server.port'"):
        configured.explain("server.prot")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sever:\n  port: 1\n", r"c.yaml:2: 'sever' is no setting; did you mean 'server'\?"),
        ("server:\n  prot: 1\n", r"c.yaml:2: 'server.prot' is no setting; did you mean 'port'\?"),
        (
            "columns:\n- {nam: a}\n",
            r"c.yaml:1: 'columns\[0\].nam' is no setting; did you mean 'name'",
        ),
        ("backup:\n  prot: 1\n", r"'backup.prot' is no setting; did you mean 'port'\?"),
        ("server:\n  port: high\n", r"c.yaml:2: server.port: .*integer.*, not 'high'"),
        ("server:\n  port: '8'\n", r"server.port: .*integer.*, not '8'"),
        ("server:\n  port: 70000\n", r"server: .*port is 70000, not within 0 and 65535"),
        ("name: a\nname: b\n", r"c.yaml:2: 'name' is given twice"),
        ("columns:\n- {kind: text}\n", r"columns.0.name: Field required"),
        ("- a\n", r"a configuration file is a mapping"),
        ("a: [\n", r"c.yaml is no YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, "c.yaml", text)
    with pytest.raises(ConfigError, match=message):
        load(path)


def test_a_missing_file_and_a_malformed_override_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no configuration file"):
        file_layer(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="--set port is not KEY=VALUE"):
        override_layer(["port"])
    with pytest.raises(ConfigError, match=r"variable RAYMLOPS__PROT: 'prot' is no setting"):
        load(environ={"RAYMLOPS__PROT": "1"})


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert load(write(tmp_path, "empty.yaml", "# nothing\n")).settings == Settings()
