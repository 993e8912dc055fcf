"""Where bytes live: named files and content-addressed blobs on file, s3 or hdfs."""

from raymlops.storage.arrow import arrow_place
from raymlops.storage.copies import Copies, CopyingStore
from raymlops.storage.files import Files, absolute_uri
from raymlops.storage.retry import RetryPolicy
from raymlops.storage.store import Store

__all__ = [
    "Copies",
    "CopyingStore",
    "Files",
    "RetryPolicy",
    "Store",
    "absolute_uri",
    "arrow_place",
]
