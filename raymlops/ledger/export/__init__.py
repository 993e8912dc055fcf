"""The ledger's runs and metrics as files for other tools: TensorBoard, Parquet."""

from raymlops.ledger.export.parquet import to_parquet
from raymlops.ledger.export.rows import Exported
from raymlops.ledger.export.tensorboard import to_tensorboard

__all__ = ["Exported", "to_parquet", "to_tensorboard"]
