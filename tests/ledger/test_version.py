from __future__ import annotations

import pytest

from raymlops.ledger import Version


def test_versions_sort_as_numbers() -> None:
    texts = ["1.10.0", "1.9.0", "1.9.10", "1.9.9", "0.0.1"]
    ordered = sorted(Version.parse(text) for text in texts)
    assert [str(version) for version in ordered] == ["0.0.1", "1.9.0", "1.9.9", "1.9.10", "1.10.0"]


@pytest.mark.parametrize(
    ("part", "bumped"), [("major", "2.0.0"), ("minor", "1.3.0"), ("patch", "1.2.4")]
)
def test_a_bump_resets_what_is_smaller(part: str, bumped: str) -> None:
    assert str(Version(1, 2, 3).bump(part)) == bumped  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["1.0", "v1.0.0", "1.0.0-rc1", "01.0.0", "", "1.0.0\n"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not MAJOR\.MINOR\.PATCH"):
        Version.parse(text)
