"""One contract for all sinks, on real receivers, and what each does when its receiver is broken."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from raymlops.cluster.address import free_port
from raymlops.config import Secret, SecretUrl
from raymlops.monitor.alerts import Alert, DeliveryError, Sink
from raymlops.monitor.alerts.sinks.alertmanager import Alertmanager
from raymlops.monitor.alerts.sinks.smtp import Smtp
from raymlops.monitor.alerts.sinks.webhook import Webhook
from tests.monitor.alerts.receivers import (
    HOST,
    TOKEN,
    Hook,
    Mailbox,
    Manager,
    Receiver,
    Told,
    dripping,
    logbook,
    mailbox,
    manager,
    webhook,
)

NOW = datetime.now(UTC)


def mails(port: int, host: str = HOST) -> tuple[Sink, ...]:
    server = Smtp(host=host, port=port, sender="a@b.c", recipients=("d@e.f",), security="none")
    return server.sinks()


FIRING = Alert(
    id="f" * 16 + "-20130701",
    fingerprint="f" * 16,
    status="firing",
    severity="warning",
    name="drift",
    model="flights",
    summary="9 of 15 features drifted",
    evidence={"effects": {"temp": 0.61}},
    started_at=NOW - timedelta(minutes=5),
    ended_at=None,
)
WORSE = replace(FIRING, severity="critical", summary="all features drifted")
RESOLVED = replace(WORSE, status="resolved", ended_at=NOW)

RECEIVERS: dict[str, Callable[[Path], contextlib.AbstractContextManager[Any]]] = {
    "webhook": lambda _: webhook(),
    "smtp": lambda _: mailbox(),
    "alertmanager": manager,
    "log": lambda _: logbook(),
}


@pytest.fixture(params=RECEIVERS)
def receiver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Receiver]:
    with RECEIVERS[request.param](tmp_path) as opened:
        yield opened


def test_an_episode_is_told_from_its_beginning_to_its_end(receiver: Receiver) -> None:
    """What is active is what was told last; one that was told twice is still one."""
    keeps_only_what_is_active = isinstance(receiver, Manager)
    expected: list[Told] = []
    for alert in (FIRING, WORSE, RESOLVED):
        for _ in range(2 if keeps_only_what_is_active else 1):
            receiver.sink.send(alert)
        severity = alert.severity if alert.status == "firing" else "resolved"
        told = Told(alert.status, alert.severity, alert.model, alert.summary)
        if receiver.sink.name == "log":
            told = replace(told, severity=severity)
        if keeps_only_what_is_active:
            expected = [told] if alert.status == "firing" else []
        else:
            expected.append(told)
        assert receiver.told() == expected


def test_names_are_their_own(tmp_path: Path) -> None:
    names = set()
    for open_receiver in RECEIVERS.values():
        with open_receiver(tmp_path) as opened:
            names.add(opened.sink.name)
    assert names == {"webhook", "smtp ops@example.org", "alertmanager", "log"}


@pytest.fixture
def hook() -> Iterator[Hook]:
    with webhook() as opened:
        yield opened


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mailbox() as opened:
        yield opened


def test_a_webhook_gets_a_token_and_a_key_against_repetition(hook: Hook) -> None:
    for alert in (FIRING, FIRING, WORSE):
        hook.sink.send(alert)
    headers = [headers for headers, _ in hook.requests]
    assert {each["authorization"] for each in headers} == {f"Bearer {TOKEN}"}
    first, again, worse = (each["idempotency-key"] for each in headers)
    assert first == again != worse
    assert hook.requests[0][1]["evidence"] == {"effects": {"temp": 0.61}}


@pytest.mark.parametrize(
    ("status", "permanent"), [(500, False), (503, False), (429, False), (400, True), (404, True)]
)
def test_what_a_webhook_refuses_for_good_is_told_apart(
    hook: Hook, status: int, permanent: bool
) -> None:
    hook.statuses.append(status)
    with pytest.raises(DeliveryError, match=f"the answer was {status}") as caught:
        hook.sink.send(FIRING)
    assert caught.value.permanent == permanent


@pytest.mark.parametrize(
    ("said", "retry_after_s"),
    [("120", 120.0), ("0.5", 0.5), ("-1", 0.0), ("nan", 0.0), ("soon", 0.0)],
)
def test_a_webhook_says_when_to_come_back(hook: Hook, said: str, retry_after_s: float) -> None:
    hook.statuses.append(429)
    hook.retry_after = said
    with pytest.raises(DeliveryError) as caught:
        hook.sink.send(FIRING)
    assert caught.value.retry_after_s == retry_after_s
    assert pickle.loads(pickle.dumps(caught.value)).retry_after_s == retry_after_s


@pytest.mark.parametrize("status", [200, 400])
def test_an_answer_without_end_is_not_waited_for(hook: Hook, status: int) -> None:
    """It had arrived, and no later alert was sent there until the sentinel was started again."""
    hook.statuses.append(status)
    hook.endless = True
    told = contextlib.nullcontext() if status == 200 else pytest.raises(DeliveryError)
    with told as caught:
        hook.sink.send(FIRING)
    assert len(hook.requests) == (status == 200)
    if caught is not None:
        assert str(caught.value).startswith("the answer was 400: and so on, and so on, ")
        assert len(str(caught.value)) < 250


def test_a_server_that_drips_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte came in time, so no later alert was sent there as long as it went on."""
    monkeypatch.setattr("raymlops.monitor.alerts.sinks.http._TIMEOUT_S", 0.3)
    monkeypatch.setattr("raymlops.monitor.alerts.sinks.smtp._LONGEST_S", 0.3)
    with dripping(b"HTTP/1.1 200 OK\r\nx-slow: ") as port:
        hook = Webhook(url=SecretUrl(f"http://{HOST}:{port}/hooks"))
        with pytest.raises(DeliveryError, match=r"no answer within 0\.3 s") as caught:
            hook.send(FIRING)
        assert not caught.value.permanent
    with dripping(b"220-") as port:
        (mail,) = mails(port)
        with pytest.raises(DeliveryError) as caught:
            mail.send(FIRING)
        assert not caught.value.permanent


def test_a_refusal_whose_reason_drips_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raymlops.monitor.alerts.sinks.http._BODY_S", 0.1)
    with dripping(b"HTTP/1.1 400 Bad Request\r\n\r\nx") as port:
        hook = Webhook(url=SecretUrl(f"http://{HOST}:{port}/hooks"))
        with pytest.raises(DeliveryError, match=r"the answer was 400: x+") as caught:
            hook.send(FIRING)
        assert caught.value.permanent


def test_a_redirection_is_not_followed_and_is_told(hook: Hook) -> None:
    """Whoever it leads to would read the token."""
    hook.statuses.append(308)
    with pytest.raises(DeliveryError, match="the answer was 308") as caught:
        hook.sink.send(FIRING)
    assert caught.value.permanent
    assert hook.requests == []


def test_alertmanager_forgets_what_nobody_repeats_for_a_day() -> None:
    """Of a cluster that was taken down in the middle of an episode it alerted for a year, and of an
    episode whose end did not arrive."""
    with webhook() as hook:
        Alertmanager(url=hook.sink.url).send(FIRING)  # type: ignore[attr-defined]
    ((_, (document, _)),) = hook.requests
    left = datetime.fromisoformat(document["endsAt"]) - datetime.now(UTC)
    assert timedelta(hours=23) < left < timedelta(hours=25)


def test_alertmanager_ends_what_began_before_its_clock_was_set_back(tmp_path: Path) -> None:
    """It refused an end before the beginning for good, and went on alerting for a day."""
    before = NOW - timedelta(hours=1)
    worse, over = replace(FIRING, severity="critical"), replace(FIRING, status="resolved")
    with manager(tmp_path) as receiver:
        for alert in (replace(worse, started_at=NOW + timedelta(hours=1)), worse):
            receiver.sink.send(alert)
        assert [each.severity for each in receiver.told()] == ["critical"]
        receiver.sink.send(replace(over, severity="critical", ended_at=before))
        assert receiver.told() == []


def test_nobody_there_is_no_reason_to_give_up_and_no_secret_is_told() -> None:
    port = free_port(HOST)
    url = SecretUrl(f"http://{HOST}:{port}/hooks?token=in-the-url-99")
    (mail,) = mails(port)
    for sink in (Webhook(url=url, token=Secret(TOKEN)), mail):
        with pytest.raises(DeliveryError) as caught:
            sink.send(FIRING)
        assert not caught.value.permanent
        assert "in-the-url-99" not in str(caught.value)
        assert TOKEN not in repr(sink)


NOWHERE = SecretUrl(f"http://{HOST}:9/hooks")


@pytest.mark.parametrize(
    ("sink", "problem"),
    [
        (Webhook(url=NOWHERE, token=Secret("schlüssel-1")), "host or a header cannot be sent"),
        (Webhook(url=SecretUrl("http://a..b/hooks")), "host or a header cannot be sent"),
        (mails(25, host="a..b")[0], "cannot be sent"),
    ],
)
def test_what_can_never_be_sent_is_not_tried_again(sink: Sink, problem: str) -> None:
    with pytest.raises(DeliveryError, match=problem) as caught:
        sink.send(FIRING)
    assert caught.value.permanent


def test_a_password_that_mail_cannot_carry_is_told(
    box: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = Secret("geheimnis-ü")
    server = replace(box.server, security="starttls", user="me", password=password)
    (sink,) = server.sinks()
    monkeypatch.setattr("smtplib.SMTP.starttls", lambda *_, **__: None)
    with pytest.raises(DeliveryError, match="user or password cannot be sent") as caught:
        sink.send(FIRING)
    assert caught.value.permanent


def test_mails_of_one_episode_are_one_thread(box: Mailbox) -> None:
    for alert in (FIRING, RESOLVED):
        box.sink.send(alert)
    began, ended = box.mails
    assert began["Subject"] == "[warning] flights: drift"
    assert ended["Subject"] == "[resolved] flights: drift"
    assert began["References"] == ended["References"]
    assert began["Message-ID"] != ended["Message-ID"]


def test_a_models_name_cannot_add_headers_to_a_mail(box: Mailbox) -> None:
    box.sink.send(replace(FIRING, model="flights\r\nBcc: someone@example.org"))
    assert box.mails[0]["Bcc"] is None
    assert box.mails[0]["To"] == "ops@example.org"


@pytest.mark.parametrize(("reply", "permanent"), [("451 later", False), ("550 never", True)])
def test_what_a_mail_server_refuses_for_good_is_told_apart(
    box: Mailbox, reply: str, permanent: bool
) -> None:
    box.replies.append(reply)
    with pytest.raises(DeliveryError, match=reply[:3]) as caught:
        box.sink.send(FIRING)
    assert caught.value.permanent == permanent


@pytest.mark.parametrize(("reply", "permanent"), [("450 later", False), ("550 never", True)])
def test_one_of_two_recipients_that_is_refused_is_told_of(
    box: Mailbox, reply: str, permanent: bool
) -> None:
    """The other one got the mail, so nobody heard that one gets none; later it was sent to both,
    150 times a day, for as long as one of them was to be tried again."""
    box.refused["gone@example.org"] = reply
    wanted = ("ops@example.org", "gone@example.org", "ops@example.org")
    one, other = replace(box.server, recipients=wanted).sinks()
    one.send(FIRING)
    assert (one.name, other.name) == ("smtp ops@example.org", "smtp gone@example.org")
    for _ in range(2):
        with pytest.raises(DeliveryError, match=f"recipient was refused: {reply[:3]}") as caught:
            other.send(FIRING)
        assert caught.value.permanent == permanent
    (mail,) = box.mails
    assert "gone@example.org" in mail["To"]
    assert parsedate_to_datetime(mail["Date"]).tzinfo is not None


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"port": 0}, "port is 0, not within 1 and 65535"),
        ({"recipients": ()}, "recipients are none"),
        ({"user": "me"}, "user and password come together"),
        ({"user": "me", "password": Secret("pass-word-1")}, "only sent over starttls or tls"),
    ],
)
def test_impossible_mail_is_refused(wrong: dict[str, Any], problem: str) -> None:
    settings = {"host": HOST, "sender": "a@b.c", "recipients": ("d@e.f",), "security": "none"}
    with pytest.raises(ValueError, match=problem):
        Smtp(**{**settings, **wrong})
