from __future__ import annotations

from raymlops.data import Finding
from raymlops.ledger import Dataset, Ledger

GOOD = Finding(column="*", rule="at least 1 rows", num_broken=0, num_rows=5_000_000_000)
BAD = Finding(column="x", rule="finite", num_broken=3_000_000_000, num_rows=5_000_000_000,
              examples=("inf", "-inf"))  # fmt: skip


def add(ledger: Ledger, digest: str, **more: object) -> Dataset:
    values: dict[str, object] = {
        "name": "sky", "digest": digest, "manifest": "m", "fields": (("x", "double"),),
        "num_rows": 5_000_000_000, "size_bytes": 40_000_000_000, "description": "",
    }  # fmt: skip
    return ledger.datasets.add(**(values | more))  # type: ignore[arg-type]


def test_format_source_and_statistics_are_kept(ledger: Ledger) -> None:
    source = {"kind": "delta", "uri": "s3://sky", "version": 3}
    statistics = [{"name": "x", "mean": 0.5, "top": [["a", 3]]}]
    added = add(ledger, "d", format="delta", source=source, statistics=statistics)
    assert (added.format, added.source, added.statistics) == ("delta", source, (statistics[0],))
    assert (added.num_rows, added.size_bytes) == (5_000_000_000, 40_000_000_000)
    plain = add(ledger, "e")
    assert (plain.format, plain.source, plain.statistics) == ("parquet", None, ())


def test_a_version_is_found_by_its_content(ledger: Ledger) -> None:
    added = add(ledger, "d")
    assert ledger.datasets.find("sky", "d") == added
    assert ledger.datasets.find("sky", "e") is None
    assert ledger.datasets.find("sea", "d") is None


def test_the_newest_report_on_a_content_is_read(ledger: Ledger) -> None:
    digest = "0123456789abcdef"
    ledger.datasets.record_checks("sky", digest, [GOOD])
    ledger.datasets.record_checks("sky", digest, [GOOD, BAD])
    ledger.datasets.record_checks("sea", digest, [GOOD])
    for shown in (digest, digest[:8]):
        report = ledger.datasets.checks("sky", shown)
        assert [(check.column, check.passed) for check in report] == [("*", True), ("x", False)]
    broken = report[1]
    assert (broken.num_broken, broken.examples) == (3_000_000_000, ("inf", "-inf"))
    assert broken.digest == digest
    assert ledger.datasets.checks("sky", "f") == []
    assert ledger.datasets.checks("sky", "%") == []
