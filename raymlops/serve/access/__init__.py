"""Who may ask: API keys, their scopes and rates, judged before a body is read."""

from raymlops.serve.access.gate import Gate, owner_of
from raymlops.serve.access.keyring import Keyring
from raymlops.serve.access.keys import ApiKey, digest_of, new_key

__all__ = ["ApiKey", "Gate", "Keyring", "digest_of", "new_key", "owner_of"]
