"""Electronic mail."""

from __future__ import annotations

import contextlib
import json
import smtplib
import socket
import ssl
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any, Literal

from raymlops.config import Secret
from raymlops.monitor.alerts.episodes import Alert
from raymlops.monitor.alerts.sinks.base import DeliveryError, document, headline

_TIMEOUT_S = 20.0  # until the server says something more
_LONGEST_S = 60.0  # until it has said everything


@dataclass(frozen=True, kw_only=True)
class Smtp:
    """The server that mails go by, and whom to.

    `security` is starttls, tls from the first byte, or none, with which no password is sent.
    """

    host: str
    sender: str
    recipients: tuple[str, ...]
    port: int = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password: Secret | None = None

    def __post_init__(self) -> None:
        if not 0 < self.port <= 65535:
            raise ValueError(f"port is {self.port}, not within 1 and 65535")
        if not self.recipients:
            raise ValueError("recipients are none: name at least one")
        if (self.user is None) != (self.password is None):
            raise ValueError(f"user is {self.user!r}: user and password come together")
        if self.password is not None and self.security == "none":
            raise ValueError("security is none: a password is only sent over starttls or tls")

    def sinks(self) -> tuple[Mail, ...]:
        """One a recipient: each has what is tried again for it, and nobody else gets it twice."""
        return tuple(Mail(by=self, recipient=each) for each in dict.fromkeys(self.recipients))

    def connect(self) -> smtplib.SMTP:
        """A connection to the server, logged in."""
        server = self._connect()
        try:
            if self.security == "starttls":
                server.starttls(context=ssl.create_default_context())
            if self.user is not None and self.password is not None:
                server.login(self.user, self.password.reveal())
        except BaseException:
            server.close()
            raise
        return server

    def _connect(self) -> smtplib.SMTP:
        if self.security == "tls":
            context = ssl.create_default_context()
            return _BoundedTls(self.host, self.port, timeout=_TIMEOUT_S, context=context)
        return _Bounded(self.host, self.port, timeout=_TIMEOUT_S)


@dataclass(frozen=True, kw_only=True)
class Mail:
    """A mail an alert to one of the recipients; those of one episode are one thread."""

    by: Smtp
    recipient: str

    @property
    def name(self) -> str:
        return f"smtp {self.recipient}"

    def send(self, alert: Alert) -> None:
        try:
            with self.by.connect() as server:
                server.send_message(self._message(alert), to_addrs=[self.recipient])
        except smtplib.SMTPResponseException as error:
            permanent = 500 <= error.smtp_code < 600
            told = f"{error.smtp_code} {error.smtp_error!r}"
            raise DeliveryError(f"the mail server answered {told}", permanent) from None
        except smtplib.SMTPRecipientsRefused as error:
            ((code, why),) = error.recipients.values()
            told = f"the recipient was refused: {code} {why!r}"
            raise DeliveryError(told, code >= 500) from None
        except UnicodeError as error:
            told = f"host, user or password cannot be sent: {error}"
            raise DeliveryError(told, True) from None
        except (smtplib.SMTPException, OSError) as error:
            raise DeliveryError(f"{type(error).__name__}: {error}") from None

    def _message(self, alert: Alert) -> EmailMessage:
        message = EmailMessage()
        message["From"] = self.by.sender
        message["Date"] = format_datetime(datetime.now(UTC))
        message["To"] = ", ".join(self.by.recipients)
        # A header is one line, whatever a model is called.
        message["Subject"] = " ".join(headline(alert).split())
        message["Message-ID"] = f"<{alert.id}.{alert.status}.{alert.severity}@raymlops>"
        message["References"] = f"<{alert.id}@raymlops>"
        evidence = json.dumps(document(alert), indent=2, default=str)
        message.set_content(f"{alert.summary}\n\n{evidence}\n")
        return message


class _Bounded(smtplib.SMTP):
    """Hangs up on a server that takes too long: one that says a byte now and then would be listened
    to for hours, and all alerts to this sink would wait for that."""

    def connect(self, *args: Any, **options: Any) -> tuple[int, bytes]:
        self._timer = threading.Timer(_LONGEST_S, self._hang_up)
        self._timer.daemon = True
        self._timer.start()
        try:
            return super().connect(*args, **options)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._timer.cancel()
        super().close()

    def _hang_up(self) -> None:
        if self.sock is not None:
            with contextlib.suppress(OSError):  # it has ended by itself
                self.sock.shutdown(socket.SHUT_RDWR)


class _BoundedTls(_Bounded, smtplib.SMTP_SSL):
    """The same, over TLS from the first byte."""
