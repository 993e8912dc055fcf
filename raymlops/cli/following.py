"""A run followed while it trains: what the ledger holds of it, looked at again and again.

follow(ledger, run_id, screen_for(console))     until the run has ended
with following(ledger, screen) as start:        the same beside other work
    trainer.fit(on_start=start)
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

from raymlops.cli.output import emit_json_line
from raymlops.errors import RaymlopsError
from raymlops.ledger import Ledger, Run
from raymlops.ledger.figures import shown_figure
from raymlops.ledger.patience import Patience
from raymlops.ledger.records import Metric

_LINE_EVERY_S = 10.0
_LOOK_EVERY_S = 0.5
_SILENT_STEPS = 3.0
# Of a run with millions of values a look takes long, and whoever trains writes to the same ledger.
_REST_A_LOOK = 20.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Sight:
    """A run as the ledger holds it: `step` is the newest that logged, `num_steps` how many there
    will be unless something ends it early, None where nobody told; `elapsed` is the time from its
    start to then, in whole seconds. `silent_minutes` are those for which a running one has told
    nothing, 0 while that is no longer than a few of its steps."""

    run: Run
    step: int
    num_steps: int | None
    values: Mapping[str, float]
    elapsed: timedelta = timedelta()
    silent_minutes: int = 0

    @classmethod
    def of(cls, run: Run, newest: Sequence[Metric], *, now: datetime) -> Sight:
        values = {metric.name: metric.value for metric in newest}
        total = values.pop("num_steps", None)
        last = run.ended_at or max((metric.at for metric in newest), default=run.started_at)
        silent_s = (now - last).total_seconds() if run.status == "running" else 0.0
        usual_s = _SILENT_STEPS * values.get("step_s", 0.0)
        return cls(
            run=run,
            step=max((metric.step for metric in newest), default=0),
            num_steps=None if total is None else int(total),
            values=values,
            elapsed=timedelta(seconds=round((last - run.started_at).total_seconds())),
            silent_minutes=int(silent_s // 60) if silent_s > usual_s else 0,
        )

    @property
    def told(self) -> str:
        """Losses and speed, or all there is of a run that has neither; and how long nothing was."""
        shown = {name: value for name, value in self.values.items() if "loss" in name}
        parts = [f"{name} {shown_figure(value)}" for name, value in (shown or self.values).items()]
        if shown and "rows_per_s" in self.values:
            parts.append(f"{self.values['rows_per_s']:,.0f} rows/s")
        if self.silent_minutes > 0:
            unit = "minute" if self.silent_minutes == 1 else "minutes"
            parts.append(f"nothing new for {self.silent_minutes:,} {unit}")
        return ", ".join(parts)


class Screen(Protocol):
    """Where a run is shown."""

    def show(self, sight: Sight, now_s: float) -> None: ...

    def close(self) -> None: ...


class Bar:
    """A line on a terminal that is drawn again and again; where it is narrow bar and values give
    way, not how far the run is."""

    def __init__(self, console: Console) -> None:
        values = Column(ratio=5, no_wrap=True, overflow="ellipsis")
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            TextColumn("{task.fields[steps]}"),
            TextColumn("{task.fields[elapsed]}"),
            TextColumn("{task.fields[told]}", table_column=values),
            console=console,
            expand=True,
        )
        self._task: TaskID | None = None

    def show(self, sight: Sight, now_s: float) -> None:
        steps = f"{sight.step:,}" + (f"/{sight.num_steps:,}" if sight.num_steps else "")
        if self._task is None:
            self._progress.start()
            self._task = self._progress.add_task(
                sight.run.id, total=None, steps="", elapsed="", told=""
            )
        self._progress.update(
            self._task,
            completed=sight.step,
            total=sight.num_steps,
            steps=steps,
            elapsed=str(sight.elapsed),
            told=sight.told,
        )

    def close(self) -> None:
        self._progress.stop()


class Lines:
    """A line every so often, and one at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: Sight | None = None
        self._shown_s = 0.0

    def show(self, sight: Sight, now_s: float) -> None:
        if is_due(self._shown, sight, age_s=now_s - self._shown_s):
            of = f" of {sight.num_steps:,}" if sight.num_steps else ""
            line = f"{sight.run.id} {sight.run.status}, step {sight.step:,}{of}: {sight.told}"
            self._console.print(line.rstrip(": "), markup=False, highlight=False, soft_wrap=True)
            self._shown, self._shown_s = sight, now_s

    def close(self) -> None:
        pass


class JsonLines:
    """A JSON document a line: status, step, values; one for each look that found something new."""

    def __init__(self) -> None:
        self._shown: Sight | None = None

    def show(self, sight: Sight, now_s: float) -> None:
        if sight != self._shown:
            told = {"run": sight.run.id, "status": sight.run.status, "error": sight.run.error}
            steps = {"step": sight.step, "num_steps": sight.num_steps}
            silent = {"silent_minutes": sight.silent_minutes}
            emit_json_line({**told, **steps, **silent, "metrics": sight.values})
            self._shown = sight

    def close(self) -> None:
        pass


def screen_for(console: Console) -> Screen:
    """A bar where somebody looks, else lines."""
    return Bar(console) if console.is_terminal else Lines(console)


def is_due(shown: Sight | None, sight: Sight, *, age_s: float) -> bool:
    """Whether a sight deserves a line after `shown`, whose line is so old; silence does each time
    that it has lasted twice as long."""
    if shown is None or sight.run.status != shown.run.status:
        return True
    if sight.silent_minutes >= max(1, 2 * shown.silent_minutes):
        return True
    return sight.step != shown.step and age_s >= _LINE_EVERY_S


def follow(
    ledger: Ledger, run_id: str, screen: Screen, *, ended: threading.Event | None = None
) -> Sight:
    """Shows the run until it has ended, or `ended` is set; returns the last sight.

    Raises:
        NotFoundError: there is no such run.
        LedgerError: the ledger stays away, or is as `ended` is set.
    """
    ended = ended or threading.Event()
    try:
        while True:
            is_last, started = ended.is_set(), time.monotonic()
            sight = _seen(ledger, run_id, ended)
            now_s = time.monotonic()
            screen.show(sight, now_s)
            if sight.run.status != "running" or is_last:
                return sight
            ended.wait(max(_LOOK_EVERY_S, _REST_A_LOOK * (now_s - started)))
    finally:
        screen.close()


def _seen(ledger: Ledger, run_id: str, ended: threading.Event) -> Sight:
    """The run as the ledger holds it, which may be away for a while, as the training waits for it,
    too; but for no longer than until `ended`."""
    patience = Patience(waits=f"run {run_id} goes on unseen")
    while True:
        try:
            run = ledger.runs.get(run_id)
            return Sight.of(run, ledger.runs.newest_metrics(run_id), now=datetime.now(UTC))
        except RaymlopsError as error:
            if ended.wait(patience.pause_s(error)):
                raise


@contextlib.contextmanager
def following(ledger: Ledger, screen: Screen) -> Iterator[Callable[[Run], None]]:
    """Gives what starts to follow a run, until the block ends."""
    ended = threading.Event()
    threads: list[threading.Thread] = []

    def work(run: Run) -> None:
        try:
            follow(ledger, run.id, screen, ended=ended)
        except RaymlopsError as error:
            _logger.warning("run %s is not followed any more: %s", run.id, error)
        except Exception:  # the thread's boundary: the training goes on unseen
            _logger.warning("run %s is not followed any more", run.id, exc_info=True)

    def start(run: Run) -> None:
        threads.append(threading.Thread(target=work, args=(run,), name="raymlops-follow"))
        threads[-1].start()

    try:
        yield start
    finally:
        ended.set()
        for thread in threads:
            thread.join()
