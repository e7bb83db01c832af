"""Ed25519 (RFC 8032) in pure Python, deciding exactly as libsodium does.

A signature (R, S) by key A over a message M is accepted if and only if

- S < L, the order of the base point;
- A is a canonical encoding (y < p) of a point, and neither A nor R has small order;
- the encoding of S·B − h·A is R, byte for byte, where h = SHA-512(R ‖ A ‖ M) mod L.

So the equation is the one without a cofactor, and an R that is not canonical never fits. Nothing
here is secret, so nothing needs to take constant time: what this module must never do is sign.

Points are (X, Y, Z, T) with x = X/Z, y = Y/Z, xy = T/Z: the extended coordinates of Hisil, Wong,
Carter and Dawson, "Twisted Edwards Curves Revisited" (2008), whose addition is complete on this
curve: it needs no case for any pair of points.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha512
from typing import NoReturn

from .exceptions import BadSignatureError

KEY_BYTES = 32
SIGNATURE_BYTES = 64

Point = tuple[int, int, int, int]

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_D2 = 2 * _D % _P
_ROOT_OF_MINUS_1 = pow(2, (_P - 1) // 4, _P)
_SIGN = 1 << 255
"""The bit of an encoding that says which of the two x of a y is meant."""
_NEUTRAL: Point = (0, 1, 1, 0)

_Y_OF_ORDER_8 = 0x5FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER = frozenset((0, 1, _P - 1, _Y_OF_ORDER_8, _P - _Y_OF_ORDER_8))
"""The y of the eight points whose order divides 8: of order 4, 1, 2 and 8."""


def crypto_sign_open(signed: bytes, public_key: bytes) -> bytes:
    """The message of signature ‖ message. Raises BadSignatureError."""
    if len(signed) < SIGNATURE_BYTES or len(public_key) != KEY_BYTES:
        raise BadSignatureError("a signature or key is too short")
    signature, message = signed[:SIGNATURE_BYTES], signed[SIGNATURE_BYTES:]
    if not _is_signature(signature, message, public_key):
        raise BadSignatureError("the signature was forged or is corrupt")
    return message


def crypto_core_ed25519_is_valid_point(point: bytes) -> bool:
    """Whether these 32 bytes are the canonical encoding of a point of order L."""
    multiples = _negated_multiples(point)
    return multiples is not None and _is_neutral(_combined(0, _L, multiples))


def crypto_sign(message: bytes, secret_key: bytes) -> NoReturn:
    """There under this name because the chain's module for signatures asks for it."""
    raise NotImplementedError("this program verifies, and signs nothing")


def crypto_sign_seed_keypair(seed: bytes) -> NoReturn:
    """As `crypto_sign`."""
    raise NotImplementedError("this program verifies, and makes no keys")


# --- the rule ---------------------------------------------------------------------------------


def _is_signature(signature: bytes, message: bytes, public_key: bytes) -> bool:
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    multiples = _negated_multiples(public_key)
    if s >= _L or multiples is None or _y(r) in _SMALL_ORDER:
        return False
    h = int.from_bytes(sha512(r + public_key + message).digest(), "little") % _L
    return _encoded(_combined(s, h, multiples)) == r


def _decoded(encoding: bytes) -> Point | None:
    """The point of a canonical encoding; None if it is none, or of small order."""
    y = _y(encoding)
    if y >= _P or y in _SMALL_ORDER:
        return None
    # x² = u/v; the root of a quotient as in RFC 8032, 5.1.3.
    u, v = (y * y - 1) % _P, (_D * y * y + 1) % _P
    x = u * pow(v, 3, _P) * pow(u * pow(v, 7, _P), (_P - 5) // 8, _P) % _P
    square = v * x * x % _P
    if square == _P - u:
        x = x * _ROOT_OF_MINUS_1 % _P
    elif square != u:
        return None
    if x & 1 != encoding[31] >> 7:
        x = _P - x
    return (x, y, 1, x * y % _P)


def _y(encoding: bytes) -> int:
    return int.from_bytes(encoding, "little") & (_SIGN - 1)


def _encoded(point: Point) -> bytes:
    x, y, z, _ = point
    inverse = pow(z, -1, _P)
    sign = _SIGN if x * inverse % _P & 1 else 0
    return (y * inverse % _P | sign).to_bytes(32, "little")


# --- the group --------------------------------------------------------------------------------


def _is_neutral(point: Point) -> bool:
    x, y, z, _ = point
    return x % _P == 0 and (y - z) % _P == 0


def _negated(point: Point) -> Point:
    x, y, z, t = point
    return (_P - x, y, z, _P - t)


def _added(one: Point, other: Point) -> Point:
    x1, y1, z1, t1 = one
    x2, y2, z2, t2 = other
    a = (y1 - x1) * (y2 - x2) % _P
    b = (y1 + x1) * (y2 + x2) % _P
    c = t1 * _D2 % _P * t2 % _P
    d = 2 * z1 * z2 % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _doubled(point: Point) -> Point:
    x, y, z, _ = point
    a, b = x * x % _P, y * y % _P
    h, g = a + b, a - b
    e = h - (x + y) * (x + y) % _P
    f = 2 * z * z % _P + g
    return (e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _odd_multiples(point: Point, count: int) -> list[Point]:
    """1, 3, 5, … times the point."""
    twice, multiples = _doubled(point), [point]
    while len(multiples) < count:
        multiples.append(_added(multiples[-1], twice))
    return multiples


_KEY_WINDOW = 5
_BASE_WINDOW = 8
"""Bits of a digit. The base point's multiples are made once."""


def _digits(scalar: int, window: int) -> list[int]:
    """The scalar as a sum of digits · 2^place, lowest first: each is 0 or odd, and below
    2^(window − 1) in size; of `window` neighbours at most one is not 0."""
    digits = []
    while scalar:
        digit = 0
        if scalar & 1:
            digit = scalar & ((1 << window) - 1)
            if digit >> (window - 1):
                digit -= 1 << window
            scalar -= digit
        digits.append(digit)
        scalar >>= 1
    return digits


@lru_cache(maxsize=1024)
def _negated_multiples(encoding: bytes) -> list[Point] | None:
    """Of the point; None if it is none, or of small order. Kept: most keys sign more than once."""
    point = _decoded(encoding)
    return None if point is None else _odd_multiples(_negated(point), 1 << (_KEY_WINDOW - 2))


def _combined(base_scalar: int, scalar: int, odd_multiples: list[Point]) -> Point:
    """base_scalar · B + scalar · the point of these multiples, both by the same doublings."""
    terms = (
        (_digits(base_scalar, _BASE_WINDOW), _BASE_MULTIPLES),
        (_digits(scalar, _KEY_WINDOW), odd_multiples),
    )
    total = _NEUTRAL
    for place in range(max(len(digits) for digits, _ in terms) - 1, -1, -1):
        total = _doubled(total)
        for digits, multiples in terms:
            digit = digits[place] if place < len(digits) else 0
            if digit > 0:
                total = _added(total, multiples[digit >> 1])
            elif digit:
                total = _added(total, _negated(multiples[-digit >> 1]))
    return total


def _base_point() -> Point:
    base = _decoded((4 * pow(5, -1, _P) % _P).to_bytes(32, "little"))
    assert base is not None
    return base


_BASE_MULTIPLES = _odd_multiples(_base_point(), 1 << (_BASE_WINDOW - 2))
