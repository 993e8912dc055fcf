"""What the documentation shows can be typed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from raymlops.config import build, file_layer, merge
from raymlops.operate import load_settings
from raymlops.train import ParallelPlan, TrainSpec

ROOT = Path(__file__).parents[2]
PAGES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))
SITE = [page for page in PAGES if page.startswith(("docs/monitoring/", "docs/serving/"))]
TRAINING = [page for page in PAGES if page not in SITE]
OF_ALL_LAYOUTS = ("docs/layouts/elastic.md", "docs/layouts/metrics.md")


@pytest.mark.parametrize("page", PAGES)
def test_links_and_scripts_are_there(page: str) -> None:
    text = (ROOT / page).read_text()
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", text)
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []
    named = re.findall(r"\b(?:jobs|configs)/[\w/]+\.\w+", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


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


def _yaml(page: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
