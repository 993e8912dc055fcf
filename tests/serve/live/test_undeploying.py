from __future__ import annotations

from tests.serve.conftest import MODEL
from tests.serve.live.service import ON_RAY, Service

pytestmark = ON_RAY


def test_a_model_that_is_undeployed_is_gone(service: Service) -> None:
    service.undeploy()
    with service.client() as client:
        assert not client.ready(MODEL)
