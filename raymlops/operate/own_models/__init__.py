"""Models that were trained elsewhere: each becomes a version, deployed and watched as any other."""

from raymlops.operate.own_models.registering import bundle_of, register_model

__all__ = ["bundle_of", "register_model"]
