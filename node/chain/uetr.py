"""UETRs: UUIDs of version 4 that name payments end to end, as 16 bytes and as text."""

from __future__ import annotations

UETR_BYTES = 16


def is_uuid4(uetr: bytes) -> bool:
    """Whether the 16 bytes are a UUID of version 4 (RFC 9562)."""
    return uetr[6] & 0xF0 == 0x40 and uetr[8] & 0xC0 == 0x80


def uetr_text(uetr: bytes) -> str:
    """The lower-case text form of a UETR."""
    h = uetr.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def parse_uetr(text: str) -> bytes:
    """The 16 bytes of a UETR in its one text form. Raises ValueError naming what is wrong."""
    digits = text.replace("-", "")
    try:
        uetr = bytes.fromhex(digits)
    except ValueError:
        uetr = b""
    if len(uetr) != UETR_BYTES or uetr_text(uetr) != text or not is_uuid4(uetr):
        raise ValueError(
            f"{text!a} is no UETR: a lower-case UUID of version 4 is expected, as in "
            "eb6305c9-1f7f-49de-aed0-16487c27b42d"
        )
    return uetr
