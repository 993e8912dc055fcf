"""Houses import only from those above them, and `import raymlops` stays light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from inspect import getsource
from pathlib import Path
from typing import Any

import pytest

import raymlops

# From the ground up; ARCHITECTURE.md explains each.
HOUSES = (
    "errors", "config", "telemetry", "storage", "coordination", "cluster", "ledger", "data",
    "models", "train", "tune", "serve", "monitor", "release", "operate", "demo", "cli",
)  # fmt: skip
PACKAGE = Path(raymlops.__file__).parent
ROOT = PACKAGE.parent
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()

# Modules that decide and nothing else: no clock, no cluster, no network.
POLICIES = (
    "serve/traffic/table.py", "serve/form.py", "serve/witnesses/statistics.py",
    "serve/client/messages.py", "serve/client/retrying.py", "serve/client/conversation.py",
    "serve/deferred/policy.py", "serve/protocols/documents.py",
    "serve/protocols/open_inference/binary.py",
    "serve/protocols/json_tensors.py", "serve/protocols/open_inference/texts.py",
    "serve/tap/latency.py",
    "telemetry/catalogue.py", "telemetry/requests.py", "telemetry/snapshot.py",
    "telemetry/exposition.py", "telemetry/trace.py",
    "monitor/alerts/episodes.py", "monitor/alerts/quiet.py", "monitor/alerts/outbox.py",
    "monitor/alerts/signals.py", "monitor/report/period.py",
    "telemetry/logs/sampling.py", "telemetry/logs/shown.py",
    "serve/routing/base.py", "serve/routing/round_robin.py", "serve/routing/least_connections.py",
    "serve/routing/power_of_two.py", "serve/routing/consistent_hash.py",
    "serve/batching/policy.py", "serve/batching/queue.py", "serve/batching/bisection.py",
    "serve/batching/speed.py", "serve/batching/outputs.py", "serve/batching/padding.py",
    "serve/caching/keys.py", "serve/caching/lru.py", "serve/caching/sizes.py",
    "serve/versions/swapping.py", "serve/caching/ranking.py",
    "serve/http/limits.py", "serve/http/encode.py", "serve/http/machine.py",
    "serve/http/framing.py", "serve/http/replies.py",
    "serve/door/roster.py", "serve/door/crowds.py",
    "serve/door/sorting.py", "serve/door/dealing.py",
    "monitor/drift.py", "monitor/performance.py", "monitor/losses.py", "monitor/windows.py",
    "monitor/concept.py",
    "monitor/detectors/base.py", "monitor/detectors/adwin.py", "monitor/detectors/cusum.py",
    "monitor/detectors/ddm.py", "monitor/detectors/eddm.py", "monitor/detectors/kswin.py",
    "monitor/detectors/page_hinkley.py", "monitor/intervals.py", "monitor/expected.py",
    "monitor/measures/classification.py", "monitor/measures/ranking.py",
    "monitor/measures/regression.py", "data/reliability.py",
    "release/gate.py", "release/canary.py", "operate/attempts.py", "operate/recoveries.py",
    "operate/triggers.py",
    "data/bins.py", "data/expectations.py", "data/profile.py", "data/statistics.py",
    "data/drift/base.py", "data/drift/cells.py", "data/drift/chi_square.py",
    "data/drift/correction.py", "data/drift/jointly.py", "data/views.py", "data/table_drift.py",
    "data/drift/family.py", "data/drift/jensen_shannon.py",
    "data/drift/kolmogorov_smirnov.py", "data/drift/missing_share.py", "data/drift/policy.py",
    "data/drift/psi.py", "data/drift/shares.py", "data/drift/verdict.py",
    "data/drift/wasserstein.py",
    "data/rules/base.py", "data/rules/compare.py", "data/rules/drift.py", "data/rules/missing.py",
    "data/rules/monotone.py", "data/rules/rows.py", "data/rules/types.py", "data/rules/values.py",
    "ledger/tracking/comparison.py", "ledger/tracking/liveness.py", "ledger/tracking/search.py",
    "coordination/zookeeper/order.py",
    "train/plan/plan.py", "train/plan/feasibility.py", "train/plan/proposal.py",
    "train/loop/batches.py", "train/loop/progress.py", "train/loop/scale.py",
    "train/workers/room.py", "train/workers/failures.py", "train/communication/spec.py",
    "train/keras/share.py", "train/replay/base.py", "train/devices/peaks.py",
    "train/pipeline/schedules.py", "train/pipeline/order.py", "train/pipeline/timeline.py",
    "train/pipeline/drawing.py", "train/pipeline/split.py", "train/pipeline/microbatches.py",
    "train/pipeline/loss.py", "train/pipeline/chain.py",
    "data/loading/cache.py", "data/loading/order.py", "data/loading/batches.py",
    "train/compression/base.py", "train/compression/elementwise.py",
    "train/compression/half.py", "train/compression/blockwise.py",
    "train/compression/sparse.py", "train/compression/power_sgd.py",
    "train/compression/feedback.py",
    "train/server/partition.py", "train/server/rows.py", "train/server/fitting.py",
    "train/server/sync/synchronous.py", "train/server/sync/asynchronous.py",
    "train/server/sync/stale.py", "train/updaters/demands.py",
)  # fmt: skip
RIM = {"ray", "socket", "asyncio", "threading", "time", "subprocess", "httpx"}


def imports(path: Path) -> set[str]:
    """Every module imported anywhere in the file, by full name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names if node.module == "raymlops" else {str(node.module)}
    return found


def house_of(path: Path) -> str:
    part = path.relative_to(PACKAGE).parts[0]
    return part.removesuffix(".py")


@pytest.mark.parametrize("house", HOUSES)
def test_a_house_imports_only_from_those_above_it(house: str) -> None:
    allowed = set(HOUSES[: HOUSES.index(house) + 1])
    paths = [path for path in PACKAGE.rglob("*.py") if house_of(path) == house]
    assert paths, f"there is no house {house}"
    for path in paths:
        used = {name.split(".")[1] for name in imports(path) if name.startswith("raymlops.")}
        assert used <= allowed, f"{path} imports from {sorted(used - allowed)}"


def test_every_house_is_listed() -> None:
    found = {house_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__", "__main__"}
    assert found == set(HOUSES)


def test_the_codemap_lists_the_houses_in_their_order_with_names_that_are_there() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .* \| (`.*`) \|$", ARCHITECTURE, re.MULTILINE)
    assert tuple(house for house, _ in rows) == HOUSES
    for house, names in rows:
        for name in re.findall(r"`([^`]+)`", names):
            stem, _, members = name.rstrip("}").partition("{")
            for member in members.split(","):
                assert reached(house, f"{stem}{member}"), f"{house} has no {stem}{member}"


def reached(house: str, name: str) -> bool:
    """Whether importing and asking for attributes leads to `name` within the house."""
    found: Any = import_module(f"raymlops.{house}")
    for part in name.split("."):
        if hasattr(found, part):
            found = getattr(found, part)
        elif isinstance(found, type):
            return f"self.{part} = " in getsource(found)
        elif find_spec(f"{found.__name__}.{part}") is None:
            return False
        else:
            found = import_module(f"{found.__name__}.{part}")
    return True


def test_files_that_the_architecture_names_are_there() -> None:
    named = re.findall(r"`([\w/]+(?:\.py|/))`", ARCHITECTURE)
    paths = [path for folder in (PACKAGE, ROOT / "tests") for path in folder.rglob("*")]
    there = [f"/{path.relative_to(ROOT)}{'/' * path.is_dir()}" for path in paths]
    assert [
        name
        for name in named
        if not (ROOT / name).exists() and not any(path.endswith(f"/{name}") for path in there)
    ] == []


@pytest.mark.parametrize("module", POLICIES)
def test_policy_knows_no_clock_and_no_cluster(module: str) -> None:
    roots = {name.split(".")[0] for name in imports(PACKAGE / module)}
    assert not roots & RIM


def test_importing_raymlops_loads_nothing_heavy() -> None:
    script = (
        "import sys, raymlops; raymlops.Workspace; "
        "heavy = {'ray', 'torch', 'tensorflow', 'matplotlib', 'onnxruntime', 'sklearn'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
