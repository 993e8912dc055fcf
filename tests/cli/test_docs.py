"""What the documentation shows can be typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from sklearn.datasets import load_wine
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from raymlops.cli.app import app
from raymlops.cli.examples import EXAMPLES
from raymlops.config import Configured, Layer, Variable, build, file_layer, merge
from raymlops.config.schema import fields_of, type_at
from raymlops.data.rules import Rule
from raymlops.operate import Settings, load_settings
from raymlops.train import ParallelPlan, TrainSpec

ROOT = Path(__file__).parents[2]
PAGES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))
REFERENCE = "docs/settings.md"
SITE = [
    page
    for page in PAGES
    if page.startswith(
        ("docs/monitoring/", "docs/serving/", "docs/table", "docs/releases", "docs/site")
    )
]
TRAINING = [page for page in PAGES if page not in (*SITE, REFERENCE)]
OF_ALL_LAYOUTS = ("docs/layouts/elastic.md", "docs/layouts/metrics.md")


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, TyperCommand]]:
    if not isinstance(command, TyperGroup):
        yield " ".join(path), command
        return
    for name, member in command.commands.items():
        yield from _commands(member, (*path, name))


@pytest.mark.parametrize("page", PAGES)
def test_links_and_scripts_are_there(page: str) -> None:
    text = (ROOT / page).read_text()
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", text)
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []
    named = re.findall(r"\b(?:jobs|configs)/[\w/]+\.\w+", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


COMMANDS = dict(_commands(get_command(app)))
FRONT = ["README.md", *PAGES]


@pytest.mark.parametrize("page", FRONT)
def test_commands_can_be_typed(page: str) -> None:
    for block in re.findall(r"```\w*\n(.*?)```", (ROOT / page).read_text(), re.DOTALL):
        for line in re.findall(r"^raymlops .+", block, re.MULTILINE):
            for part in line.split(" && "):
                words = shlex.split(part, comments=True)[1:]
                depth = 1 if words[0] in COMMANDS else 2
                name = " ".join(words[:depth])
                COMMANDS[name].make_context(name, words[depth:])  # parses, and refuses


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_ends_with_an_example_that_can_be_typed(name: str) -> None:
    example = EXAMPLES[name]
    assert example.startswith(f"raymlops {name}")
    COMMANDS[name].make_context(name, shlex.split(example)[1 + len(name.split()) :])
    assert COMMANDS[name].epilog == f"Example: {example}"


def test_no_example_is_of_another_command() -> None:
    assert set(EXAMPLES) == set(COMMANDS)


def test_every_command_is_told() -> None:
    told = "\n".join((ROOT / page).read_text() for page in FRONT)
    assert [name for name in COMMANDS if f"raymlops {name}" not in told] == []


def test_functions_of_ones_own_are_as_the_page_writes_them(tmp_path: Path) -> None:
    (code,) = re.findall(
        r"```python\n(import numpy.*?)```", (ROOT / "docs/README.md").read_text(), re.DOTALL
    )
    wine = load_wine(as_frame=True).frame
    wine.to_csv(tmp_path / "wine.csv", index=False)
    names: dict[str, Any] = {}
    exec(compile(code, "wine.py", "exec"), names)
    train, validation = names["rows"](path=str(tmp_path / "wine.csv"))
    assert (len(train), len(validation)) == (138, 40)
    inputs, targets = validation.take(np.arange(2))
    assert (inputs.shape, inputs.dtype, targets.tolist()) == ((2, 13), np.float32, [2, 2])


@pytest.mark.parametrize("page", TRAINING)
def test_plans_can_be_read(page: str) -> None:
    plans = re.findall(r"--plan ([\w=,]+)", (ROOT / page).read_text())
    assert plans or "layouts" not in page or page in OF_ALL_LAYOUTS
    for plan in plans:
        assert plan == "auto" or ParallelPlan.parse(plan).num_workers > 1


@pytest.mark.parametrize("page", SITE)
def test_settings_of_a_site_can_be_loaded(page: str, tmp_path: Path) -> None:
    for number, block in enumerate(_yaml(page)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block)
        named = re.findall(r"\$\{env:(\w+)\}", block)
        load_settings([path], environ=dict.fromkeys(named, "http://host/what-is-kept-elsewhere"))


@pytest.mark.parametrize("page", TRAINING)
def test_settings_are_those_of_a_spec(page: str, tmp_path: Path) -> None:
    whole = file_layer(ROOT / "configs" / "digits.yaml")
    inline = re.findall(r"`(pipeline: \{.*?\})`", (ROOT / page).read_text())
    for number, block in enumerate([*_yaml(page), *inline]):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block)
        assert build(TrainSpec, merge([whole, file_layer(path)])).settings.name == "digits"


def test_rules_of_a_table_can_be_declared_and_are_all_there_are(tmp_path: Path) -> None:
    rules = re.findall(r"^\| `(\{rule: .*?\})`", (ROOT / "docs" / "table.md").read_text(), re.M)
    path = tmp_path / "rules.yaml"
    declared = "\n".join(f"    - {rule}" for rule in rules)
    path.write_text(f"{_yaml('docs/table.md')[0]}{declared}\n")
    schema = load_settings([path], environ={}).settings.data
    assert schema is not None
    kinds = {get_args(get_type_hints(rule)["rule"])[0] for rule in get_args(get_args(Rule)[0])}
    # A function cannot be declared in YAML.
    assert {rule.rule for rule in schema.expectations} == kinds - {"function"}


def test_every_setting_stands_in_the_reference_with_its_default(tmp_path: Path) -> None:
    site, optional, model, spec = _layers(REFERENCE, tmp_path)
    factories = {key: value for key, value in spec.values.items() if key[0] in ("model", "data")}
    required = Layer(values=factories, origins=dict.fromkeys(factories, "page"))
    for shown, default in (
        (build(Settings, merge([site, model])), build(Settings, merge([]))),
        (build(TrainSpec, spec), build(TrainSpec, required)),
    ):
        assert _values(shown) == _values(default)
        assert [key for key, _, origin in shown.explain() if origin == "default"] == []
    variables = {
        name: Variable(text="x", origin="here") for name in ("ALERTS_TOKEN", "MAIL_PASSWORD")
    }
    chosen = build(Settings, merge([site, model, optional]), variables=variables)
    assert [key for key, _, origin in chosen.explain() if origin == "default"] == []
    unset = {key for key, value, _ in chosen.explain() if value is None and _is_section(key)}
    assert unset == {"data"}  # which docs/table.md shows


def _is_section(key: str) -> bool:
    return fields_of(type_at(Settings, tuple(key.split(".")))) is not None


def _values(configured: Configured[Any]) -> dict[str, Any]:
    return {key: value for key, value, _ in configured.explain()}


def _layers(page: str, folder: Path) -> list[Layer]:
    found = []
    for number, block in enumerate(_yaml(page)):
        path = folder / f"{number}.yaml"
        path.write_text(block)
        found.append(file_layer(path))
    return found


def _yaml(page: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
