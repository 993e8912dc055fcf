"""Where bytes live: content-addressed blobs on file, s3 or hdfs."""

from raymlops.storage.store import Store

__all__ = ["Store"]
