"""Which UETRs are certainly not in the database, without asking it.

Nearly every payment brings a UETR that nobody has used, and a database takes longest to say so: it
has to look at every level. One bit for each of a UETR's 2²⁷ possible last bits answers at once. A
set bit means "perhaps", and the database decides; a clear one means "no", so a bit must be set
before the UETR's entry can be seen by anybody, and nothing is answered before every stored UETR has
been read once (`complete`). A UETR that somebody chose to collide costs that somebody's payment one
look-up, no more.
"""

from __future__ import annotations

from collections.abc import Iterable
from mmap import mmap

BITS = 27
"""16 MiB, of which a page is only taken once a bit in it is set. 1 % of a million entries' UETRs
collide, 7 % of ten million's."""
_MASK = (1 << BITS) - 1


class UetrFilter:
    """A set of UETRs that may hold more than was added, never less."""

    __slots__ = ("_bits", "complete")

    def __init__(self) -> None:
        self._bits = mmap(-1, 1 << (BITS - 3))  # zeros, taken page by page
        self.complete = False
        """Whether all that is stored was added: before that it knows nothing."""

    def add(self, uetrs: Iterable[bytes]) -> None:
        """Take in UETRs: before their entries are written."""
        bits = self._bits
        for uetr in uetrs:
            place = int.from_bytes(uetr[12:], "big") & _MASK
            bits[place >> 3] |= 1 << (place & 7)

    def lacks(self, uetr: bytes) -> bool:
        """Whether this UETR certainly has no entry."""
        if not self.complete:
            return False
        # The last 32 bits of a version 4 UUID are random.
        place = int.from_bytes(uetr[12:], "big") & _MASK
        return not self._bits[place >> 3] >> (place & 7) & 1
