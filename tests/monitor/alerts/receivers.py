"""Real receivers of alerts, one a kind of sink, each with a way to be broken."""

from __future__ import annotations

import contextlib
import email
import email.policy
import http.server
import json
import logging
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from aiosmtpd.controller import Controller

from raymlops.cluster.address import free_port
from raymlops.config import Secret, SecretUrl
from raymlops.monitor.alerts import Sink
from raymlops.monitor.alerts.sinks.alertmanager import Alertmanager
from raymlops.monitor.alerts.sinks.log import Log
from raymlops.monitor.alerts.sinks.smtp import Smtp
from raymlops.monitor.alerts.sinks.webhook import Webhook
from tests.servers.alertmanager import active_alerts, alertmanager

HOST = "127.0.0.1"
TOKEN = "webhook-token-77"


@dataclass(frozen=True)
class Told:
    """What a receiver knows of an alert."""

    status: str
    severity: str
    model: str
    summary: str


class Receiver(Protocol):
    sink: Sink

    def told(self) -> list[Told]:
        """What it was told, in order; Alertmanager knows only what is active."""
        ...


@dataclass
class Hook:
    """`statuses` are answered one after the other, then 200; with `retry_after`, if it is set, and
    a body without end, if that is `endless`."""

    sink: Sink
    requests: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    retry_after: str | None = None
    endless: bool = False

    def told(self) -> list[Told]:
        return [
            Told(body["status"], body["severity"], body["model"], body["summary"])
            for _, body in self.requests
        ]


@contextlib.contextmanager
def webhook() -> Iterator[Hook]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status = hook.statuses.pop(0) if hook.statuses else 200
            if status == 200:
                headers = {name.lower(): value for name, value in self.headers.items()}
                hook.requests.append((headers, body))
            self.send_response(status)
            if hook.retry_after is not None:
                self.send_header("retry-after", hook.retry_after)
            if not hook.endless:
                self.send_header("content-length", "0")
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                while hook.endless:
                    self.wfile.write(b"and so on, ")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer((HOST, 0), Handler) as server:
        url = SecretUrl(f"http://{HOST}:{server.server_port}/hooks?token=in-the-url-88")
        hook = Hook(Webhook(url=url, token=Secret(TOKEN)))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hook
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Mailbox:
    sink: Sink
    server: Smtp
    mails: list[email.message.EmailMessage] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    async def handle_RCPT(
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        if self.replies:
            return self.replies.pop(0)
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, email.message.EmailMessage)
        self.mails.append(mail)
        return "250 taken"

    def told(self) -> list[Told]:
        found = []
        for mail in self.mails:
            summary, _, evidence = str(mail.get_content()).replace("\r\n", "\n").partition("\n\n")
            fields = json.loads(evidence)
            found.append(Told(fields["status"], fields["severity"], fields["model"], summary))
        return found


@contextlib.contextmanager
def mailbox() -> Iterator[Mailbox]:
    port = free_port(HOST)
    server = Smtp(
        host=HOST,
        port=port,
        sender="raymlops@example.org",
        recipients=("ops@example.org",),
        security="none",
    )
    (sink,) = server.sinks()
    box = Mailbox(sink, server)
    controller = Controller(box, hostname=HOST, port=port, auth_require_tls=False)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


@dataclass
class Manager:
    sink: Sink
    url: str

    def told(self) -> list[Told]:
        return [
            Told(
                "firing",
                alert["labels"]["severity"],
                alert["labels"]["model"],
                alert["annotations"]["summary"],
            )
            for alert in active_alerts(self.url)
        ]


@contextlib.contextmanager
def manager(folder: Path) -> Iterator[Manager]:
    with alertmanager(folder) as url:
        yield Manager(Alertmanager(url=SecretUrl(url)), url)


@contextlib.contextmanager
def dripping(beginning: bytes) -> Iterator[int]:
    """The port of a server that says `beginning` and then a byte every few milliseconds."""
    over = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                self.request.sendall(beginning)
                while not over.wait(0.02):
                    self.request.sendall(b"x")

    with socketserver.ThreadingTCPServer((HOST, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            over.set()
            server.shutdown()
            thread.join()


class LogBook(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.sink: Sink = Log()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def told(self) -> list[Told]:
        found = []
        for line in self.lines:
            head, _, rest = line.removeprefix("[").partition("] ")
            model, _, rest = rest.partition(": ")
            status = "resolved" if head == "resolved" else "firing"
            found.append(Told(status, head, model, rest.partition(": ")[2]))
        return found


@contextlib.contextmanager
def logbook() -> Iterator[LogBook]:
    logger = logging.getLogger("raymlops.monitor.alerts.sinks.log")
    book, level = LogBook(), logger.level
    logger.addHandler(book)
    logger.setLevel(logging.INFO)
    try:
        yield book
    finally:
        logger.removeHandler(book)
        logger.setLevel(level)
