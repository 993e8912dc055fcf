"""How the demo speaks: numbered acts, plain lines, small tables, one progress bar."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from raymlops.data import OUTPUTS
from raymlops.ledger import Decision, Drift
from raymlops.ledger.describe import Lines
from raymlops.monitor import ALL, WindowReport
from raymlops.train import Quality
from raymlops.train.tabular.quality import FIGURES

_MARKS = {"trigger": "!", "gate": "=", "release": ">", "alias": "*"}


@dataclass(frozen=True)
class Narrator:
    console: Console

    def act(self, number: int, title: str) -> None:
        self.console.print()
        self.console.rule(f"[bold]{number}. {title}", align="left", style="cyan")

    def say(self, text: str) -> None:
        self.console.print(f"  {escape(text)}", highlight=False, soft_wrap=True)

    def lines(self, lines: Lines) -> None:
        width = max(len(label) for label, _ in lines)
        for label, text in lines:
            self.console.print(
                f"  [dim]{escape(label):>{width}}[/]  {escape(text)}",
                highlight=False,
                soft_wrap=True,
            )

    def qualities(self, qualities: Mapping[str, Quality]) -> None:
        figures = {name: quality.to_dict() for name, quality in qualities.items()}
        titles = [FIGURES[figure] for figure in next(iter(figures.values()))]
        table = Table("model", *titles, box=None)
        for column in table.columns[1:]:
            column.justify = "right"
        for name, of in figures.items():
            table.add_row(name, *(f"{figure:.4f}" for figure in of.values()))
        self.console.print(table)

    def month(self, report: WindowReport) -> None:
        """One line on a judged window: performance, and the features that drifted farthest."""
        found = {row.metric: row for row in report.performance if row.arm == ALL}
        loss, baseline, auc = (found[name] for name in ("log_loss", "baseline_log_loss", "roc_auc"))
        judgement = "[green]better[/]" if loss.value < baseline.value else "[red]worse[/]"
        inputs = _drift_of_main_version(report)
        drifted = sorted((row for row in inputs if row.drifted), key=lambda row: -row.effect)
        farthest = ", ".join(f"{row.feature} {row.effect:.2f}" for row in drifted[:3])
        self.console.print(
            f"  [bold]{report.window.start:%B}[/]  {loss.num_rows:>6,} rows  log loss "
            f"{loss.value:.3f} [{loss.low:.3f}, {loss.high:.3f}], {judgement} than the constant's "
            f"{baseline.value:.3f}  AUC {auc.value:.3f}  drift in {len(drifted)} of "
            f"{len(inputs)}: {escape(farthest) or 'none'}",
            highlight=False,
            soft_wrap=True,
        )

    def decisions(self, decisions: Iterable[Decision]) -> None:
        """What was decided, and why: once, where several decisions share a reason."""
        reason = None
        for decision in decisions:
            when: datetime = decision.event_time or decision.at
            self.console.print(
                f"  [yellow]{_MARKS.get(decision.kind, '-')} {when:%Y-%m-%d} "
                f"{escape(decision.kind)}: {escape(decision.outcome)}[/]",
                highlight=False,
            )
            if decision.why != reason:
                self.say(f"    {decision.why}")
            reason = decision.why

    def progress(self) -> Progress:
        return Progress(
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("days"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
        )


def _drift_of_main_version(report: WindowReport) -> list[Drift]:
    """The inputs' drift from what the version that answered most rows was trained on."""
    inputs = [row for row in report.drift if row.feature not in OUTPUTS]
    main = max(inputs, key=lambda row: row.num_rows, default=None)
    return [row for row in inputs if main is not None and row.version == main.version]
