"""References: what they yield, and that what they yield stays unseen."""

from __future__ import annotations

import json
import logging
import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from raymlops.config import (
    Configured,
    Secret,
    SecretUrl,
    build,
    dotenv_variables,
    environment_variables,
    file_layer,
    merge,
    override_layer,
    redact,
)
from raymlops.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Login:
    user: str = "nobody"
    password: Secret | None = None
    hosts: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if " " in self.user:
            raise ValueError(f"user {self.user!r} has a space")


@dataclass(frozen=True, kw_only=True)
class Settings:
    url: SecretUrl | None = None
    login: Login = field(default_factory=Login)
    name: str = "none"
    port: int = 1
    unit: Literal["day", "week"] = "day"


def load(folder: Path, text: str, **environ: str) -> Configured[Settings]:
    path = folder / "c.yaml"
    path.write_text(text)
    variables = environment_variables(environ)
    return build(Settings, file_layer(path), variables=variables, secret_in=("login",))


def secret_file(folder: Path, name: str, text: str, mode: int = 0o600) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return path


def test_references_yield_variables_and_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    secret_file(tmp_path / "sub", "pw", "of-a-file\n\n")
    settings = load(
        tmp_path,
        "url: postgresql://${env:WHO}:${file:sub/pw}@db/x\n"
        "login: {user: 'a-${env:NONE:-b:c}', password: '${env:WHO}', hosts: ['${env:WHO}', z]}\n",
        WHO="somebody",
    ).settings
    assert settings.url is not None
    assert settings.url.reveal() == "postgresql://somebody:of-a-file\n@db/x"
    assert settings.login.user == "a-b:c"
    assert settings.login.password == Secret("somebody")
    assert settings.login.hosts == ("somebody", "z")


def test_a_reference_in_a_number_or_a_word_is_plain(tmp_path: Path) -> None:
    configured = load(tmp_path, "port: ${env:PORT}\nunit: ${env:UNIT}\n", PORT="8080", UNIT="week")
    assert (configured.settings.port, configured.settings.unit) == (8080, "week")
    assert configured.explain("port") == (
        ("port", 8080, f"{tmp_path / 'c.yaml'}:1, variable PORT"),
    )
    with pytest.raises(ConfigError, match=r"c.yaml:1, variable PORT: port: .*, not '\*\*\*'"):
        load(tmp_path, "port: ${env:PORT}\n", PORT="x")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("$${env:A}", "${env:A}"),
        ("$$${env:A}", "$${env:A}"),
        ("$5{a}$a", "$5{a}$a"),
        ("a${env:A}b${env:A}", "a${env:B}b${env:B}"),  # what one yields is not searched again
        ("${env:EMPTY:-}", ""),
        ("${env:EMPTY:-$${x}", "$${x"),  # a default is taken as it stands
    ],
)
def test_references_are_read_once(tmp_path: Path, written: str, meant: str) -> None:
    text = json.dumps({"login": {"user": written}})
    assert load(tmp_path, text, A="${env:B}", B="never", EMPTY="").settings.login.user == meant


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("${HOME}", r"'\$\{HOME\}' is no reference; write \$\{env:NAME\}"),
        ("${env:}", "is no reference"),
        ("${env:a b}", "is no reference"),
        ("${file:}", "is no reference"),
        ("${vault:x}", "is no reference"),
        ("${env:A", "is never closed"),
    ],
)
def test_a_malformed_reference_is_refused(tmp_path: Path, written: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=rf"c.yaml:1: login.user: .*{problem}"):
        load(tmp_path, json.dumps({"login": {"user": written}}))


def test_everything_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    big = secret_file(tmp_path, "big", "x" * 70_000)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "binary").write_bytes(b"\xff")
    secret_file(tmp_path, "empty", "\n")
    with pytest.raises(ConfigError) as caught:
        load(
            tmp_path,
            "url: ${env:A}${env:B}\n"
            "login:\n"
            "  user: ${file:none}\n"
            "  hosts: ['${file:pipe}', '${file:big}', '${file:binary}', '${file:empty}']\n"
            "port: ${env:C}\n"
            "unit: month\n",
            C="",
        )
    assert str(caught.value).replace(f"{tmp_path}/", "").splitlines() == [
        "c.yaml:1: url: variable A is not set; export it, or write A=... into .env",
        "c.yaml:1: url: variable B is not set; export it, or write B=... into .env",
        "c.yaml:3: login.user: file none cannot be read: No such file or directory; "
        "put the secret there, mode 0600",
        "c.yaml:4: login.hosts[0]: file pipe is no regular file",
        f"c.yaml:4: login.hosts[1]: file {big.name} is larger than 65536 bytes; is it a secret?",
        "c.yaml:4: login.hosts[2]: file binary is no UTF-8 text",
        "c.yaml:4: login.hosts[3]: file empty is empty; put the secret there",
        "c.yaml:5: port: variable C is empty (variable C); export it, or write C=... into .env",
        "c.yaml:6: unit: Input should be 'day' or 'week', not 'month'",
    ]


def test_a_reference_that_a_later_layer_replaces_is_not_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("url: ${env:NOWHERE}\n")
    layer = merge([file_layer(path), override_layer(["url=sqlite:///x.db"])])
    assert build(Settings, layer).settings.url == SecretUrl("sqlite:///x.db")


def test_a_text_that_is_recorded_takes_no_reference(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"c.yaml:1: name: takes no reference.*RAYMLOPS__NAME"):
        load(tmp_path, "name: ${env:NAME}\n", NAME="flights")


def test_a_path_is_relative_to_the_file_that_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("config", "elsewhere"):
        (tmp_path / name).mkdir()
        secret_file(tmp_path / name, "pw", name)
    secret_file(tmp_path, "above", "parent")
    monkeypatch.chdir(tmp_path / "elsewhere")
    text = f"login: {{hosts: ['${{file:pw}}', '${{file:../above}}', '${{file:{tmp_path}/above}}']}}"
    assert load(tmp_path / "config", text).settings.login.hosts == ("config", "parent", "parent")
    given = build(Settings, override_layer(["login.user=${file:pw}"]))
    assert given.settings.login.user == "elsewhere"


def test_bytes_that_are_no_text_are_refused_with_their_key(tmp_path: Path) -> None:
    # The command ended in a traceback of pydantic's.
    with pytest.raises(ConfigError) as caught:
        load(
            tmp_path,
            'name: "\\udcff"\nlogin: {hosts: [a, "${env:X}"], labels: {"\\udcfe": b}}\n',
            X="\udcff",
        )
    assert [line.partition(": ")[2] for line in str(caught.value).splitlines()] == [
        "name: is no UTF-8 text",
        "login.hosts[1]: is no UTF-8 text",
        "login.labels.\udcfe: is no UTF-8 text",
    ]


def test_a_file_that_others_may_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = secret_file(tmp_path, "pw", "word")
    load(tmp_path, "url: ${file:pw}")
    assert caplog.messages == []
    path.chmod(0o640)
    load(tmp_path, "url: ${file:pw}")
    assert caplog.messages == [f"others may read {path}, mode 0640: chmod 600 {path}"]


def test_a_dotenv_file_stands_behind_the_environment(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = secret_file(
        tmp_path,
        ".env",
        "# ours\n\nexport A='of the file'\nB=\"b#b\"  # a comment\nC=${A}\nA=last\n",
        0o644,
    )
    variables = dotenv_variables(path)
    assert {name: (found.text, found.origin) for name, found in variables.items()} == {
        "A": ("last", f"{path}:6"),
        "B": ("b#b", f"{path}:4"),
        "C": ("${A}", f"{path}:5"),
    }
    layer = override_layer(["login.user=${env:A}", "login.hosts=['${env:B}']"])
    both = {**variables, **environment_variables({"A": "real"})}
    assert build(Settings, layer, variables=both).settings.login == Login(
        user="real", hosts=("b#b",)
    )
    assert caplog.messages == [f"others may read {path}, mode 0644: chmod 600 {path}"]
    assert dotenv_variables(tmp_path / "none") == dotenv_variables(tmp_path) == {}


def test_a_malformed_dotenv_file_is_refused_unseen(tmp_path: Path) -> None:
    path = secret_file(tmp_path, ".env", "A=1\nhunter2isthepassword\n\nB='never closed\nC=1\n")
    with pytest.raises(ConfigError) as caught:
        dotenv_variables(path)
    assert str(caught.value).splitlines() == [
        f"{path}:2: is not NAME=VALUE",
        f"{path}:4: is not NAME=VALUE",
    ]


def test_secrets_are_shown_by_none_of_pythons_ways(tmp_path: Path) -> None:
    secret = Secret("xyzzy-plugh")
    shown = [str(secret), repr(secret), f"{secret}", f"{secret!s:>9}", str([secret])]
    assert "xyzzy" not in "".join(shown)
    with pytest.raises(TypeError, match="not JSON serializable"):
        json.dumps(secret)
    again = pickle.loads(pickle.dumps(secret))
    assert (again, again.reveal(), hash(again)) == (secret, "xyzzy-plugh", hash(secret))
    assert secret != "xyzzy-plugh"
    assert redact("got xyzzy-plugh, not xyzzy") == "got ***, not xyzzy"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///home/ledger.db", "sqlite:///home/ledger.db"),
        ("postgresql+psycopg://me@db:5432/x", "postgresql+psycopg://me@db:5432/x"),
        ("postgresql://me:opensesame1@db/x", "postgresql://me:***@db/x"),
        ("postgresql://me:open@se/sa:me2@db/x", "postgresql://me:***@db/x"),
        (
            "postgresql://db/x?user=me&password=opensesame3",
            "postgresql://db/x?user=me&password=***",
        ),
        ("postgresql:///me:opensesame7@db/x", "postgresql:///me:***@db/x"),
        ("s3://AKIA:opensesame4@b/x?region=eu", "s3://AKIA:***@b/x?region=eu"),
        ("s3://b/x?secret_key=opensesame5&a=b", "s3://b/x?secret_key=***&a=b"),
        ("postgresql//me:opensesame6@db", "***"),
        ("/data/store", "/data/store"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert str(SecretUrl(url)) == shown
    assert repr(SecretUrl(url)) == f"SecretUrl({shown!r})"
    if shown != url and shown != "***":
        assert redact(f"cannot reach {url}") == f"cannot reach {shown}"
    assert pickle.loads(pickle.dumps(SecretUrl(url))).reveal() == url


def test_a_password_written_beside_a_reference_is_hidden_too(tmp_path: Path) -> None:
    configured = load(
        tmp_path,
        "url: postgresql://me:inthefile-1@${env:HOST}/x\n"
        "login: {password: 'inthefile-2${env:HOST}'}\n",
        HOST="db.example",
    )
    assert configured.settings.url is not None
    assert configured.settings.url.reveal() == "postgresql://me:inthefile-1@db.example/x"
    assert repr(configured.settings.url) == "SecretUrl('postgresql://me:***@***/x')"
    assert [value for _, value, _ in configured.explain()][:3] == [
        "postgresql://me:***@***/x", "nobody", "***",
    ]  # fmt: skip
    assert "inthefile" not in repr(configured)


def test_a_refused_value_is_not_told_where_it_may_be_a_secret(tmp_path: Path) -> None:
    for text in (
        "login: {user: '${env:S}'}\n",  # refused by the section, which quotes it
        "login: swordfish 9\n",
        "login: {password: [swordfish 9]}\n",
        "login: {labels: [swordfish 9]}\nport: '${env:S}'\nurl: {a: swordfish 9}\n",
        "login: {hosts: '${env:S}'}\n",
    ):
        with pytest.raises(ConfigError, match=r"c\.yaml:1") as caught:
            load(tmp_path, text, S="swordfish 9")
        assert "swordfish" not in str(caught.value)
        assert caught.value.__context__ is None  # which a traceback would show
    with pytest.raises(ConfigError, match="column 1") as caught:
        load(tmp_path, 'url: "swordfish 9\nport: 1\n')
    assert "swordfish" not in str(caught.value)
    with pytest.raises(ConfigError, match="option --set url") as caught:
        override_layer(["url='swordfish 9"])
    assert "swordfish" not in str(caught.value)


def test_logs_of_settings_hide_what_references_yielded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    configured = load(
        tmp_path,
        "login: {user: '${env:S}', hosts: ['${env:S}'], labels: {a: 'x${env:S}'}}\n",
        S="swordfish9",
    )
    with caplog.at_level(logging.INFO):
        logging.getLogger("raymlops").info("%s %r", configured.settings, configured)
    assert "swordfish" not in caplog.text
    assert [value for _, value, _ in configured.explain("login")] == [
        "***", None, ("***",), "x***",
    ]  # fmt: skip
