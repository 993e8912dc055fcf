"""Runs every benchmark and writes benchmarks/RESULTS.md; arguments are passed on."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import psutil

FOLDER = Path(__file__).parent
NAMES = (
    "startup", "drift", "concept", "monitor_tap", "monitor_merging", "wild_labels", "records",
    "metrics",
    "train", "checkpoints", "pipeline", "parameter_server", "loader", "compression",
    "batching", "model_cache", "model_pool", "protocols", "serving", "serving_growth",
    "serving_grpc", "serving_faults", "serving_nodes",
)  # fmt: skip
PACKAGES = ("raymlops", "ray", "torch", "onnxruntime", "numpy", "scipy")


def main() -> None:
    sections = [_header()]
    for name in NAMES:
        command = [sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        print(done.stdout)
        sections.append(_section(name, json.loads(done.stdout.splitlines()[-1])["figures"]))
    (FOLDER / "RESULTS.md").write_text("\n".join(sections))


def _header() -> str:
    memory_gib = psutil.virtual_memory().total / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        "# Measured figures\n\n"
        f"Python {platform.python_version()}, {psutil.cpu_count()} cores, {memory_gib:.0f} GiB; "
        f"{packages}. Written by `make bench`.\n"
    )


def _section(name: str, figures: list[dict[str, object]]) -> str:
    rows = [
        f"| {f['name']} | {f['unit']} | {f['ours']:.4g} | "
        + ", ".join(f"{peer} {value:.4g}" for peer, value in f["references"].items())  # type: ignore[attr-defined]
        + f" | {f['goal'] or ''} | {'' if f['met'] is None else 'yes' if f['met'] else 'no'} |"
        for f in figures
    ]
    head = (
        "| figure | unit | ours | references | goal | met |\n| --- | --- | --- | --- | --- | --- |"
    )
    command = f"`python -m benchmarks.{name}`"
    return f"\n## {name}\n\n{command}\n\n{head}\n" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
