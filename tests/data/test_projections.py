from __future__ import annotations

import numpy as np
import pytest

from raymlops.data import Feature, Profile
from raymlops.data.drift import DriftPolicy, judge
from raymlops.data.projections import Projection

RNG = np.random.default_rng(0)
TEXTS = RNG.integers(1, 100, (2000, 12))
SCORES = np.zeros(2000, np.float32)


def profile_of(column: str, tensors: np.ndarray) -> Profile:
    projection = Projection.of(column, tensors)
    columns = projection.read(tensors)
    features = [Feature(name=name, kind="number") for name in columns]
    found = Profile.of(features, columns, SCORES, label_rate=0.5, log_loss=0.5)
    return Profile.from_dict({**found.to_dict(), "projections": [vars(projection)]})


def drifted(profile: Profile, column: str, tensors: np.ndarray) -> set[str]:
    counts = profile.count(profile.read({column: tensors}), SCORES)
    counted = (
        (bins, np.array(profile.reference)[cells], counts[cells])
        for bins, cells in zip(profile.bins, profile.cells.values(), strict=True)
    )
    found = judge(counted, 2000, DriftPolicy(spending=False))
    return {each.feature for each in found if each.drifted}


def test_padding_is_no_part_of_a_text() -> None:
    texts = np.array([[5, 6, 0, 0], [7, 0, 8, 0], [0, 0, 0, 0]])
    projection = Projection.of("tokens", texts)
    assert projection.kind == "tokens"
    short, long = projection.read(texts), projection.read(np.pad(texts, ((0, 0), (0, 9))))
    assert short["tokens length"].tolist() == [2, 3, 0]
    assert [*short] == ["tokens length", *(f"tokens direction {n}" for n in range(1, 9))]
    for name in short:
        np.testing.assert_allclose(short[name], long[name])
    assert short["tokens direction 1"][2] == 0.0


def test_many_texts_are_read_as_few_are() -> None:
    projection = Projection.of("tokens", TEXTS)
    many = projection.read(np.tile(TEXTS, (10, 1)))["tokens direction 3"]
    np.testing.assert_allclose(many[-2000:], projection.read(TEXTS)["tokens direction 3"])


def test_bytes_are_pixels() -> None:
    flat = np.zeros((2, 64), np.uint8)
    assert [Projection.of("x", each).kind for each in (flat, flat.astype(np.int32))] == [
        "vector",
        "tokens",
    ]


def test_other_words_drift_and_the_same_do_not() -> None:
    profile = profile_of("tokens", TEXTS)
    assert drifted(profile, "tokens", RNG.integers(1, 100, (2000, 12))) == set()
    others = drifted(profile, "tokens", RNG.integers(60, 160, (2000, 12)))
    assert "tokens length" not in others
    assert others
    shorter = TEXTS.copy()
    shorter[:1000, 6:] = 0
    assert "tokens length" in drifted(profile, "tokens", shorter)


@pytest.mark.parametrize("change", ["darker", "flipped"])
def test_other_images_drift_and_the_same_do_not(change: str) -> None:
    def images() -> np.ndarray:  # brighter to the left
        return RNG.normal(np.linspace(3.0, 1.0, 8), 1.0, (2000, 1, 8, 8)).astype(np.float32)

    profile = profile_of("image", images())
    assert drifted(profile, "image", images()) == set()
    new = images()[..., ::-1] if change == "flipped" else images() * 0.8
    found = drifted(profile, "image", new)
    assert ("image norm" in found) == (change == "darker")
    assert any(name.startswith("image direction") for name in found)
