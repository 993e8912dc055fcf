from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from raymlops.data import Columns, Profile, TableSchema, read_columns
from raymlops.models import Bundle, Postprocessing, Preprocessing, Signature, export
from raymlops.train.tabular.network import Perceptron


@pytest.fixture(scope="session")
def columns(tumours: pa.Table, tumour_schema: TableSchema) -> Columns:
    return read_columns(tumours, tumour_schema.features)


@pytest.fixture(scope="session")
def bundle(columns: Columns, tumour_schema: TableSchema) -> Bundle:
    preprocessing = Preprocessing.fit(tumour_schema.features, columns)
    network = Perceptron(preprocessing.width, (8,), 0.0)
    postprocessing = Postprocessing(label="target")
    return Bundle.of(
        signature=Signature.of(tumour_schema, postprocessing.outputs),
        preprocessing=preprocessing,
        model=export(network, preprocessing.transform(columns)[:32]),
        postprocessing=postprocessing,
        profile=Profile.of(
            tumour_schema.features,
            columns,
            np.zeros(569, dtype=np.float32),
            label_rate=0.6,
            log_loss=0.1,
        ),
    )
