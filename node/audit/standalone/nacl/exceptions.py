"""The exception of PyNaCl that the verifier knows."""

from __future__ import annotations


class BadSignatureError(Exception):
    """A signature is not one over this message by this key."""
