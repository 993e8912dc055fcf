"""Rows on their way into a training loop."""

from raymlops.data.loading.source import ArraySource, Columns, Source

__all__ = ["ArraySource", "Columns", "Source"]
