"""Random streams derived from names, so that no draw depends on any other or on a global state."""

import hashlib


def stream_seed(*names: object) -> int:
    """Return the 63-bit seed of the stream with these names.

    Example: `stream_seed(study_seed, "order", point, replicate, epoch)`. The names are hashed with
    BLAKE2b; any two different tuples give unrelated seeds.
    """
    text = "\x1f".join(str(name) for name in names)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
