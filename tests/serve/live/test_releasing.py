"""Traffic goes where the newest table says, and nobody's request fails."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from raymlops.errors import NotFoundError, ReleaseError
from raymlops.ledger import Ledger
from raymlops.models import PROBABILITY
from raymlops.serve import Arm
from tests.serve.conftest import MODEL
from tests.serve.live.service import ON_RAY, Service
from tests.serve.load import eventually, load

pytestmark = ON_RAY


def test_keys_stick_to_their_arm_and_fill_its_share(service: Service) -> None:
    service.split(
        Arm(name="champion", version="1.0.0", share=0.75),
        Arm(name="canary", version="1.0.1", share=0.25),
    )
    columns = service.world.rows(0, 1)
    wanted = {version: b.predict(columns) for version, b in service.world.bundles.items()}

    def ask(key: int) -> str:
        answer = client.infer(MODEL, columns, key=f"user-{key}")
        score = wanted[answer.version][PROBABILITY]
        np.testing.assert_allclose(answer.outputs[PROBABILITY], score, rtol=1e-6)
        return answer.arm

    with service.client() as client, ThreadPoolExecutor(8) as pool:
        first = list(pool.map(ask, range(400)))
        assert list(pool.map(ask, range(400))) == first
        pinned = client.infer(MODEL, columns, version="1.0.1")
    assert Counter(first)["canary"] == pytest.approx(100, abs=30)  # 3.5 standard deviations
    assert (pinned.version, pinned.arm) == ("1.0.1", "pinned")


def test_no_request_fails_while_tables_are_swapped(service: Service) -> None:
    with load(service.deployment.url, service.world) as outcomes:
        for version in ("1.0.1", "1.0.2", "1.0.0", "1.0.2", "1.0.0"):
            service.split(Arm(name="champion", version=version, share=1.0))
            seen = len(outcomes)
            eventually(lambda seen=seen: len(outcomes) > seen + 20)
    assert set(outcomes) == {"1.0.0", "1.0.1", "1.0.2"}


def test_a_version_that_cannot_be_loaded_is_refused_and_serving_goes_on(service: Service) -> None:
    with Ledger(service.world.ledger_url) as ledger:
        digest = ledger.registry.resolve(f"{MODEL}@1.0.2").bundle
    blob = Path(service.world.store_uri) / "blobs" / digest[:2] / digest
    intact = blob.read_bytes()
    blob.write_bytes(intact + b" ")
    with pytest.raises(ReleaseError, match=r"is refused: .*IntegrityError"):
        service.split(Arm(name="champion", version="1.0.2", share=1.0))
    blob.write_bytes(intact)
    with service.client() as client:
        assert client.infer(MODEL, service.world.rows(0, 1)).version == "1.0.0"


def test_a_table_of_unknown_versions_is_not_published(service: Service) -> None:
    with pytest.raises(NotFoundError, match=r"^no tumours 9\.9\.9; the ledger holds"):
        service.split(Arm(name="champion", version="9.9.9", share=1.0))
