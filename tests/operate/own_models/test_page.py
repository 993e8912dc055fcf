"""The page on models of one's own can be typed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from raymlops.demo.digits import sources
from raymlops.models import (
    FORMATS,
    Bundle,
    Postprocessing,
)
from raymlops.operate import Workspace, register_model
from raymlops.train import TrainSpec
from raymlops.train.loop.loop import Loop
from raymlops.train.plan.seat import Seat
from raymlops.train.spec.sources import Sources

PAGE = (Path(__file__).parents[3] / "docs/own_model.md").read_text()


def test_the_page_names_every_format() -> None:
    lines = re.findall(r"^\| `(\w+)`( \*)? \| (.*) \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)
    told = {
        name: (tuple(re.findall(r"`(\.[\w.]+)`", files)), extra != "", kinds, "yes" in code)
        for name, extra, files, kinds, code in lines
    }
    assert told == {
        each.name: (
            each.suffixes,
            each.extra == "formats",
            ", ".join(sorted(each.kinds)),
            each.runs_code or each.name == "skops",  # which looks into the file first
        )
        for each in FORMATS
    }


def test_the_page_can_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAYMLOPS__HOME", str(tmp_path / "home"))
    first, second, ranking, third, images = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(first, names)
    assert capsys.readouterr().out == "tumours 1.0.0\n"
    module = torch.nn.Sequential(torch.nn.Linear(30, 1), torch.nn.Flatten(0))
    names["result"] = SimpleNamespace(model=lambda: module)
    exec(second, names)
    with Workspace.open() as workspace:
        logits = Postprocessing(label="benign", reads="logit")
        register_model(workspace, "logits", names["model"], names["rows"], postprocessing=logits)
        assert workspace.ledger.registry.models() == ["logits", "tumours"]
    exec(ranking, names)
    assert capsys.readouterr().out == "departures 1.0.0\n"
    names["result"] = SimpleNamespace(model=trained_digits)
    exec(third, names)
    assert capsys.readouterr().out == "digits 1.0.0\n"
    exec(images, names)
    assert capsys.readouterr().out == "pixels 1.0.0\n"
    for name in ("digits@1.0.0", "pixels@1.0.0"):
        assert error_rate(name) < 0.1


def error_rate(reference: str) -> float:
    with Workspace.open() as workspace:
        version = workspace.ledger.registry.resolve(reference)
        known = Bundle.of_version(workspace.store, version).profile.reliability
        assert known is not None
        return known.error_rate


def trained_digits() -> torch.nn.Module:
    """What the spec of the digits has learned after a few epochs."""
    spec = TrainSpec.read(Path(__file__).parents[3] / "configs/digits.yaml")
    train, validation = sources()
    loop = Loop(
        replace(spec, epochs=8),
        Seat(),
        sources=Sources(train=train, validation=validation),
        log=lambda *_: None,
    )
    loop.run()
    network: torch.nn.Module = loop.parts[0]
    return network
