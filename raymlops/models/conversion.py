"""From one format to another, with the numbers compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from raymlops.errors import DataError, ModelError
from raymlops.models.artifact import Artifact
from raymlops.models.formats import FORMATS, Format, Recorded, format_named
from raymlops.models.predictors import Matrix, kind_of

# More rows make parity no surer, but cost a pass through both models.
_MAX_SAMPLE_ROWS = 4096


def convert(artifact: Artifact, to: Format, sample: Matrix, *, recorded: Recorded) -> Artifact:
    """The same model in the format `to`.

    Args:
        sample: real rows, [rows, width], at least two; both models predict them alike.
        recorded: whether the ledger vouches for a digest; asked when loading could run code.

    Raises:
        UntrustedError: loading could run code and the digest is not recorded.
        ParityError: a row is predicted differently; names it and both values.
        ModelError: the formats have no models in common.
    """
    source = format_named(artifact.format)
    model = source.restore(artifact, recorded=recorded)
    kind = kind_of(model)
    if kind not in to.kinds:
        ways = [each.name for each in FORMATS if kind in each.kinds and each.name != source.name]
        held = f"a model of {kind}, which can become {', '.join(ways)}"
        if not ways:
            held = "a model that can be asked, but not taken apart again"
        raise ModelError(f"{source.name} cannot become {to.name}: it holds {held}")
    return to.save(model, sample)


def read_sample(path: Path) -> Matrix:
    """The rows of a Parquet or CSV file, its columns in the order the model takes them.

    Raises:
        DataError: the file cannot be read, has fewer than two rows, or a column that holds
            something other than numbers.
    """
    import pandas as pd

    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise DataError(f"sample {path} cannot be read: {error}") from error
    texts = [str(name) for name, dtype in table.dtypes.items() if dtype.kind not in "fiub"]
    if texts:
        raise DataError(
            f"sample {path}: {', '.join(texts)} hold no numbers; a model takes a matrix"
        )
    if len(table) < 2:
        raise DataError(f"sample {path} has {len(table)} rows; parity needs at least two")
    return table.head(_MAX_SAMPLE_ROWS).to_numpy(np.float32)
