"""What the requests of every protocol have in common."""

from __future__ import annotations

import msgspec

from raymlops.serve.inference import About


class BaseAsk(msgspec.Struct, eq=False):
    """The envelope of a request to infer; its columns are not read yet."""

    about: About
    version: str | None
