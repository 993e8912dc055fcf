"""Caches: answers to requests that come again, and the memory of plain functions."""

from raymlops.serve.caching.keys import digest_of, digest_of_columns
from raymlops.serve.caching.lru import CachePolicy, CacheStats, LruCache
from raymlops.serve.caching.memoize import Memoized, memoize
from raymlops.serve.caching.models import ModelCache, ModelCachePolicy
from raymlops.serve.caching.predictions import PredictionCache

__all__ = [
    "CachePolicy",
    "CacheStats",
    "LruCache",
    "Memoized",
    "ModelCache",
    "ModelCachePolicy",
    "PredictionCache",
    "digest_of",
    "digest_of_columns",
    "memoize",
]
