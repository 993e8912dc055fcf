"""Whoever watches: reads what was decided, keeps the episodes, and tells the sinks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from concurrent.futures import Future, wait
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from raymlops.config import redact
from raymlops.errors import RaymlopsError
from raymlops.ledger import Decision, Ledger
from raymlops.ledger.patience import is_away
from raymlops.monitor.alerts.book import AlertBook, Book
from raymlops.monitor.alerts.couriers import begin
from raymlops.monitor.alerts.episodes import SEVERITIES, Alert, Severity, Signal, advance
from raymlops.monitor.alerts.ledger_away import LedgerAway
from raymlops.monitor.alerts.outbox import Letter, due, failed, revived
from raymlops.monitor.alerts.quiet import is_quiet
from raymlops.monitor.alerts.settings import AlertSettings
from raymlops.monitor.alerts.signals import signals_of
from raymlops.monitor.alerts.sinks.base import DeliveryError, Forgetful, Sink, deliver

_DECISIONS_A_LOOK = 500
_PATIENCE_S = 5.0  # with sinks that were just begun with; a mail takes a second or two
_LONGEST_S = 30.0  # between two letters that a person waits for; a sink gives up after ten

_logger = logging.getLogger(__name__)


class Sentinel:
    """Looks at a ledger, and whatever else `watch` tells, and sends alerts to `sinks`.

    All it knows is in the book: one that was killed goes on with the decision after the last it
    had written there. What it had sent and not yet written is sent again, under the same id.
    `log` is given every decision, once or, after a kill, twice.
    """

    def __init__(
        self,
        ledger: Ledger,
        book: AlertBook,
        settings: AlertSettings,
        sinks: Sequence[Sink],
        *,
        watch: Callable[[], Sequence[Signal]] = tuple,
        log: Callable[[Decision], None] = lambda _: None,
    ) -> None:
        self._ledger = ledger
        self._book = book
        self._settings = settings
        self._sinks = {sink.name: sink for sink in sinks}
        self._watch = watch
        self._log = log
        self._couriers: dict[str, Future[None]] = {}
        self._repeated: dict[str, datetime] = {}
        self._ledger_away = LedgerAway(ledger.url)

    def begin(self) -> None:
        """Of a home without a book: from here on decisions are looked at, not those of before."""
        if self._book.is_new:
            with self._book.open() as book:
                newest = self._ledger.overview.last_decisions(limit=1)
                book.cursor = newest[0].id if newest else 0

    def look(self, now: datetime) -> tuple[Alert, ...]:
        """What there is to be told since the last look; it is sent, or will be tried again."""
        self.begin()
        seen = self._watch()
        with self._book.open() as book:
            signals = [*self._decided(book, now), *seen]
            alerts = self._advance(book, signals, now)
            self._address(book, alerts, now)
        self.deliver(now)
        return alerts

    def deliver(self, now: datetime) -> None:
        """Tries every letter that is due, and repeats what is not over to sinks that forget, in a
        thread a sink.

        Returns once all were tried, or without those that take longer: a sink that hangs keeps
        its own letters waiting, and no look.
        """
        sinks = {letter.sink for letter in self._due(now)}
        sinks |= {name for name in self._sinks if self._is_to_repeat(name, now)}
        free = [name for name in sinks if name not in self._couriers]
        self._couriers |= {name: begin(partial(self._carry, name, now)) for name in free}
        wait([self._couriers[name] for name in free], timeout=_PATIENCE_S)
        for name in [name for name, courier in self._couriers.items() if courier.done()]:
            self._couriers.pop(name).result()

    def _carry(self, sink: str, now: datetime) -> None:
        """Tries what is due to one sink, one letter after the other; then it is reminded."""
        while letters := [each for each in self._due(now) if each.sink == sink]:
            self._try(letters, now)
        if self._is_to_repeat(sink, now):
            self._repeated[sink] = now
            self._repeat(self._sinks[sink])

    def _due(self, now: datetime) -> tuple[Letter, ...]:
        return due(self._book.read().letters, now, self._settings.retry)

    def _is_to_repeat(self, name: str, now: datetime) -> bool:
        sink = self._sinks.get(name)
        if not isinstance(sink, Forgetful):
            return False
        last = self._repeated.get(name)
        return last is None or abs(now - last) >= timedelta(seconds=sink.repeat_every_s)

    def _repeat(self, sink: Sink) -> None:
        """Tells of what was told and is not over; what fails is told again the next time."""
        book = self._book.read()
        waiting = {
            letter.alert.id
            for letter in book.letters
            if letter.sink == sink.name and not letter.is_dead
        }
        told = [
            replace(each, severity=each.told)
            for each in book.episodes
            if each.told is not None and each.id not in waiting and self._is_told_of(each.told)
        ]
        for episode in told:
            try:
                deliver(sink, _without_secrets(Alert.of(episode)))
            except DeliveryError as error:
                _logger.warning(
                    "open alerts cannot be repeated to %s: %s", sink.name, redact(error.message)
                )
                return

    def resend(self, now: datetime) -> int:
        """Tries the dead letters to its own sinks once more; how many there were.

        All others are left as they are: whoever asks need not know every sink of the home. No sink
        waits for another, and nobody for one that hangs: its letters are left waiting. What was
        told of an episode after a dead letter is told again after it.
        """
        with self._book.open() as book:
            dead = [letter for letter in book.dead if letter.sink in self._sinks]
            strange = {letter.sink for letter in book.dead} - set(self._sinks)
            book.letters = (
                *(revived(letter, now) if letter in dead else letter for letter in book.letters),
                *_newer(dead, book, now),
            )
        if strange:
            _logger.warning(
                "dead letters to %s are left: no such sink is set here; name the configuration "
                "that sets it",
                ", ".join(sorted(strange)),
            )
        episodes = {(letter.sink, letter.alert.id) for letter in dead}
        couriers = {
            name: begin(partial(self._carry_again, name, episodes, now))
            for name in {letter.sink for letter in dead}
        }
        for name in self._still_under_way(couriers):
            _logger.warning("%s does not answer; letters to it are left waiting", name)
        return len(dead)

    def _carry_again(self, sink: str, episodes: Set[tuple[str, str]], now: datetime) -> None:
        while letters := [
            letter
            for letter in self._due(now)
            if letter.sink == sink and (sink, letter.alert.id) in episodes
        ]:
            self._try(letters, now)

    def _still_under_way(self, couriers: Mapping[str, Future[None]]) -> list[str]:
        """The sinks whose couriers are not back when nothing has moved for long; what broke one
        of the others is raised."""
        before = None
        while (left := self._letters_to(couriers)) != before:
            before = left
            if not wait(couriers.values(), timeout=_LONGEST_S).not_done:
                break
        for courier in couriers.values():
            if courier.done():
                courier.result()
        return sorted(name for name, courier in couriers.items() if not courier.done())

    def _letters_to(self, sinks: Collection[str]) -> list[Letter]:
        return [letter for letter in self._book.read().letters if letter.sink in sinks]

    def _try(self, letters: Sequence[Letter], now: datetime) -> None:
        for letter in letters:
            after = self._send(letter, now)
            with self._book.open() as book:
                book.letters = _replaced(book.letters, letter, after)

    def _decided(self, book: Book, now: datetime) -> list[Signal]:
        """Without a ledger there are still all other troubles, and it is one."""
        try:
            found = self._ledger.overview.decisions_after(book.cursor, limit=_DECISIONS_A_LOOK)
        except RaymlopsError as error:
            if not is_away(error):
                raise
            if not self._ledger_away.is_away:
                _logger.warning("decisions are looked at once the ledger is back: %s", error)
            return [*self._ledger_away.failed(str(error), now)]
        for decision in found:
            self._log(decision)
            book.cursor = decision.id
        decided = [signal for decision in found for signal in signals_of(decision)]
        return [self._ledger_away.answered(), *decided]

    def _advance(self, book: Book, signals: Sequence[Signal], now: datetime) -> tuple[Alert, ...]:
        book.silences = tuple(each for each in book.silences if each.ends_at > now)
        silences, maintenance = book.silences, self._settings.maintenance
        book.episodes, alerts = advance(
            book.episodes,
            signals,
            now,
            quiet=lambda each: is_quiet(each, now, silences=silences, maintenance=maintenance),
            resolve_after=timedelta(days=self._settings.resolve_after_days),
        )
        return tuple(each for each in alerts if self._is_told_of(each.severity))

    def _is_told_of(self, severity: Severity) -> bool:
        return SEVERITIES.index(severity) >= SEVERITIES.index(self._settings.min_severity)

    def _address(self, book: Book, alerts: Sequence[Alert], now: datetime) -> None:
        book.told = (*book.told, *alerts)
        fresh = [
            Letter(alert=_without_secrets(alert), sink=name, due_at=now)
            for alert in alerts
            for name in self._sinks
        ]
        book.letters = (*book.letters, *fresh)

    def _send(self, letter: Letter, now: datetime) -> Letter | None:
        """None when it has arrived, or else the letter after the attempt."""
        policy = self._settings.retry
        sink = self._sinks.get(letter.sink)
        if sink is None:
            return failed(letter, "the sink is not set any more", now, policy, permanent=True)
        try:
            deliver(sink, letter.alert)
        except DeliveryError as error:
            why = redact(error.message)
            after = failed(
                letter,
                why,
                now,
                policy,
                permanent=error.permanent,
                retry_after_s=error.retry_after_s,
            )
            if after.is_dead:
                _logger.error("alert %s did not reach %s: %s", letter.alert.id, sink.name, why)
            return after
        return None


def _newer(dead: Sequence[Letter], book: Book, now: datetime) -> list[Letter]:
    """The last word on the episodes of `dead` letters that has arrived at their sinks: told once
    more, an episode that is over began again there."""
    last = {alert.id: _without_secrets(alert) for alert in book.told}
    pending = [(letter.sink, letter.alert) for letter in book.letters]
    episodes = dict.fromkeys((letter.sink, letter.alert.id) for letter in dead)
    return [
        Letter(alert=last[id], sink=sink, due_at=now)
        for sink, id in episodes
        if id in last and (sink, last[id]) not in pending
    ]


def _replaced(
    letters: Sequence[Letter], letter: Letter, after: Letter | None
) -> tuple[Letter, ...]:
    kept = [after if each == letter else each for each in letters]
    return tuple(each for each in kept if each is not None)


def _without_secrets(alert: Alert) -> Alert:
    return replace(alert, summary=redact(alert.summary))
