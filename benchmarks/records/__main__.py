"""The records' figures against mlflow-skinny, kazoo and the plain storage libraries.

python -m benchmarks.records [--quick] [SECTION...]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial

from benchmarks.figures import Figure, report
from benchmarks.records import coordination, data, ledger, mirror, storage

SECTIONS: Mapping[str, Callable[[bool], list[Figure]]] = {
    "ledger": ledger.figures,
    "data": data.figures,
    **{f"storage-{kind}": partial(storage.figures, kind) for kind in storage.KINDS},
    "coordination": coordination.figures,
    "mirror": mirror.figures,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer repeats")
    parser.add_argument("sections", nargs="*", choices=(*SECTIONS, "all"), default="all")
    arguments = parser.parse_args()
    names = SECTIONS if "all" in arguments.sections else arguments.sections
    figures = [figure for name in names for figure in SECTIONS[name](arguments.quick)]
    report("records", figures)


if __name__ == "__main__":
    main()
