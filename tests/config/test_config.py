from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from raymlops.config import (
    Configured,
    build,
    environment_layer,
    environment_variables,
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
class Square:
    shape: Literal["square"]
    side: int
    corners: ClassVar[int] = 4


@dataclass(frozen=True, kw_only=True)
class Circle:
    shape: Literal["circle"]
    radius: int


@dataclass(frozen=True, kw_only=True)
class Settings:
    name: str = "none"
    server: Server = field(default_factory=Server)
    columns: tuple[Column, ...] = ()
    shapes: tuple[Square | Circle, ...] = ()
    backup: Server | None = None
    servers: Mapping[str, Server] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    span: tuple[int, int] = (0, 1)
    either: int | str = 0


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def load(*paths: Path, environ: dict[str, str] | None = None, sets: tuple[str, ...] = ()) -> (
    Configured[Settings]
):  # fmt: skip
    variables = environment_variables(environ or {})
    layers = [*map(file_layer, paths), environment_layer(variables), override_layer(sets)]
    return build(Settings, merge(layers), variables=variables)


def test_later_layers_win_key_by_key(tmp_path: Path) -> None:
    base = write(tmp_path, "base.yaml", "name: base\nserver:\n  host: a\n  port: 1\n")
    more = write(tmp_path, "more.yaml", "server:\n  port: 2\n")
    settings = load(base, more).settings
    assert settings == Settings(name="base", server=Server(host="a", port=2))
    environ = {"RAYMLOPS__SERVER__PORT": "3", "HOME": "/"}
    assert load(base, more, environ=environ).settings.server.port == 3
    changed = load(base, more, environ=environ, sets=("server.port=4",))
    assert changed.settings.server.port == 4


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
        ("server.shares", (0.5,), "option --set server.shares"),
    )
    assert configured.explain("name") == (("name", "x", "variable RAYMLOPS__NAME"),)
    with pytest.raises(ConfigError, match=r"no setting 'server.prot'; did you mean 'server.port'"):
        configured.explain("server.prot")


def test_a_section_is_set_where_somebody_set_anything_in_it(tmp_path: Path) -> None:
    path = write(tmp_path, "base.yaml", "server:\n  port: 9000\ncolumns: [{name: x}]\n")
    configured = load(path, sets=("limits.rows=3",))
    for section in ("server", "server.port", "columns", "limits"):
        assert configured.is_set(section)
    for section in ("serv", "server.host", "servers", "name"):
        assert not configured.is_set(section)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sever:\n  port: 1\n", r"c.yaml:1: 'sever' is no setting; did you mean 'server'\?"),
        ("server:\n  prot: 1\n", r"c.yaml:2: 'server.prot' is no setting; did you mean 'port'\?"),
        (
            "columns:\n- {nam: a}\n",
            r"c.yaml:2: 'columns\[0\].nam' is no setting; did you mean 'name'",
        ),
        (
            "shapes:\n- {shape: square, sied: 1}\n",
            r"'shapes\[0\].sied' .* mean 'side'\? \(section 'shapes\[0\]' has: shape, side\)",
        ),
        (
            "shapes:\n- {shape: squire, sied: 1}\n",
            r"\(section 'shapes\[0\]' has: radius, shape, side\)",
        ),
        ("backup:\n  prot: 1\n", r"'backup.prot' is no setting; did you mean 'port'\?"),
        ("server:\n  port: high\n", r"c.yaml:2: server.port: .*integer.*, not 'high'"),
        ("server:\n  port: '8'\n", r"server.port: .*integer.*, not '8'"),
        ("server:\n  port: 70000\n", r"c.yaml:2: server: port is 70000, not within 0 and 65535"),
        ("name: a\nname: b\n", r"c.yaml:2: 'name' is given twice"),
        ("columns:\n- {kind: text}\n", r"c.yaml:2: columns\[0\].name: Field required"),
        ("columns:\n- name: a\n- name: b\n  kind: 1\n", r"c.yaml:4: columns\[1\].kind: .*, not 1"),
        ("columns:\n- {name: a, name: b}\n", r"c.yaml:2: 'columns\[0\].name' is given twice"),
        ("columns: [7]\n", r"c.yaml:1: columns\[0\]: .*, not 7"),
        (
            "server: {shares: [0.1, half]}\n",
            r"c.yaml:1: server.shares\[1\]: .*number.*, not 'half'",
        ),
        ("span: [1]\n", r"c.yaml:1: span\[1\]: Field required"),
        ("span: [1, 2, 3]\n", r"c.yaml:1: span: .*at most 2"),
        ("limits:\n  a: 1\n  b: x\n", r"c.yaml:3: limits.b: .*integer.*, not 'x'"),
        (
            "servers:\n  a:\n    prot: 1\n",
            r"c.yaml:3: 'servers.a.prot' is no setting; did you mean",
        ),
        ("either: [1]\n", r"c.yaml:1: either"),
        ("sever: {}\n", r"c.yaml:1: 'sever' is no setting"),
        ("server:\n", r"c.yaml:1: server: "),
        ("name: 2024-02-30\n", r"c.yaml:1: name: day is out of range"),
        ("name: !!python/none\n", r"c.yaml:1: name: could not determine a constructor"),
        ("name: !!binary aGVsbG8=\nserver: {port: 99999999999999999999}\n", r"server: port is 9+,"),
        ("server: &a\n  port: *a\n", r"nested deeper than any setting"),
        ("columns: &a [*a]\n", r"columns: found unconstructable recursive node"),
        ("- a\n", r"a configuration file is a mapping"),
        ("a: [\n", r"c.yaml:2: is no YAML: expected the node content, .*, column 1"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, "c.yaml", text)
    with pytest.raises(ConfigError, match=message):
        load(path)


def test_a_missing_file_and_a_malformed_override_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no configuration file"):
        file_layer(tmp_path / "none.yaml")
    write(tmp_path, "wine.yaml", "")
    with pytest.raises(ConfigError, match=r"file .*/wine.yml; did you mean 'wine.yaml'\?"):
        file_layer(tmp_path / "wine.yml")
    with pytest.raises(ConfigError, match="--set port is not KEY=VALUE"):
        override_layer(["port"])
    with pytest.raises(ConfigError, match=r"variable RAYMLOPS__PROT: 'prot' is no setting"):
        load(environ={"RAYMLOPS__PROT": "1"})
    # Of a section that is not there it said "no file sets it".
    with pytest.raises(ConfigError, match=r"variable RAYMLOPS__SEVER__PORT: 'sever' is no setting"):
        load(environ={"RAYMLOPS__SEVER__PORT": "1"})


def test_a_file_is_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("model: Fl\N{LATIN SMALL LETTER U WITH DIAERESIS}sse", encoding="utf-8")
    script = "from raymlops.config import file_layer; print(ascii(file_layer(p).values))"
    environ = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    read = subprocess.run(
        [sys.executable, "-c", f"from pathlib import Path; p = Path({str(path)!r}); {script}"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Fl\\xfcsse" in read.stdout, read.stderr


def test_a_section_given_on_the_command_line_is_merged_key_by_key(tmp_path: Path) -> None:
    base = write(tmp_path, "base.yaml", "server: {port: 1, host: a}\n")
    assert load(base, sets=("server={port: 2}",)).settings.server == Server(port=2, host="a")
    with pytest.raises(ConfigError, match=r"option --set server: 'server.prot' is no setting"):
        load(base, sets=("server={prot: 2}",))
    with pytest.raises(ConfigError, match=r"variable RAYMLOPS__SERVER: 'server.prot' is no"):
        load(base, environ={"RAYMLOPS__SERVER": "{prot: 2}"})


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "c.yaml", "nam: a\nserver:\n  port: high\n  hots: b\n")
    with pytest.raises(ConfigError) as caught:
        load(path, environ={"RAYMLOPS__SPAN": "x"}, sets=("backup.port=-1", "other=1"))
    told = [line.partition(": ")[0] for line in str(caught.value).splitlines()]
    assert sorted(told) == [
        f"{path}:1", f"{path}:3", f"{path}:4",
        "option --set backup.port", "option --set other", "variable RAYMLOPS__SPAN",
    ]  # fmt: skip


def test_every_malformed_assignment_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        override_layer(["port", "a=[", "b=1"])
    assert len(str(caught.value).splitlines()) == 2
    twice = environment_variables({"RAYMLOPS__NAME": "a", "RAYMLOPS__name": "b"})
    with pytest.raises(ConfigError, match="RAYMLOPS__NAME and RAYMLOPS__name set the same"):
        environment_layer(twice)


def test_a_number_may_be_written_without_a_dot(tmp_path: Path) -> None:
    path = write(tmp_path, "c.yaml", "server: {shares: [1e-3, 2E5, .inf]}\n")
    assert load(path).settings.server.shares == (0.001, 200000.0, float("inf"))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(ConfigError, match=r"c\.yaml is no UTF-8 text"):
        file_layer(path)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        file_layer(tmp_path)


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert load(write(tmp_path, "empty.yaml", "# nothing\n")).settings == Settings()
