"""Which UETR an outcome names, read without looking at the rest of it: of many thousand at a time.

A block's outcomes are complete for a UETR: every one that is of a payment, an issue, a redemption
or a move names it. One that tells of a whole clearing cycle names none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from node.chain.encoding import UNDECODABLE, Malformed
from node.chain.types import Outcome


class _Named(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    tag=Outcome.__struct_config__.tag,
    gc=False,
):
    """The first fields of an `Outcome`; those behind them are skipped."""

    height: int
    time: int
    instruction: int | None
    payment: int
    uetr: bytes | None


_decode = msgspec.msgpack.Decoder(_Named).decode


def named_uetrs(outcomes: Iterable[bytes]) -> Iterator[bytes]:
    """The UETR of each of these canonical outcomes that names one, in order. Raises Malformed."""
    for raw in outcomes:
        try:
            uetr = _decode(raw).uetr
        except UNDECODABLE as error:
            raise Malformed(f"an outcome: {error}") from error
        if uetr is not None:
            yield uetr
