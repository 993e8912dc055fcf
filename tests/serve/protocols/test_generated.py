from __future__ import annotations

import pytest

from tests.serve.protocols.conftest import InProcess
from tests.serve.protocols.generated import check_operations


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # schemathesis' own
def test_what_the_document_promises_is_kept(app: InProcess) -> None:
    statuses = check_operations(app, 240)
    assert statuses[200] > 40
    assert statuses[400] > 100
    assert max(statuses) < 500
