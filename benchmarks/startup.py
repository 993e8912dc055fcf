"""What the first touch costs: importing raymlops, and asking the command line for help."""

from __future__ import annotations

import argparse
import subprocess
import sys

from benchmarks.figures import Figure, paired_medians, report


def run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three pairs instead of nine")
    repeats = 3 if parser.parse_args().quick else 9
    imported, ray = paired_medians(
        lambda: run("-c", "import raymlops"), lambda: run("-c", "import ray"), repeats=repeats
    )
    opened, nothing = paired_medians(
        lambda: run("-c", "import raymlops; raymlops.Workspace"),
        lambda: run("-c", "pass"),
        repeats=repeats,
    )
    helped, _ = paired_medians(
        lambda: run("-m", "raymlops", "--help"), lambda: run("-c", "pass"), repeats=repeats
    )
    references = {"import ray": ray, "python alone": nothing}
    report(
        "startup",
        [
            Figure(
                name="import_raymlops_s",
                unit="s",
                ours=imported,
                references=references,
                goal="< 1",
                met=imported < 1,
            ),
            Figure(name="import_workspace_s", unit="s", ours=opened, references=references),
            Figure(name="help_s", unit="s", ours=helped, references=references),
        ],
    )


if __name__ == "__main__":
    main()
