"""Instructions: every check that needs no ledger state, and the digests that name them.

Two steps, because a block's header commits to less than a ledger demands:

- `parse_instruction`: canonical bytes whose payments are those under the signed root. This is
  what a header commits to, so a body that fails it was damaged by whoever sent it.
- `check_instruction`: that, and chain, identifiers, texts, UETRs and every signature. A block with
  an instruction that fails only here is its leader's fault.

Per payment the cost is one encoding, one leaf hash and its share of the tree: the encodings that
the leaves need are also, put together, the canonical form to compare the received bytes with.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from enum import StrEnum
from hashlib import sha256

import msgspec

from node.chain.bodies import body_identifiers, body_payments, body_uetrs, disorder
from node.chain.encoding import INSTRUCTION, UNDECODABLE, digest, encode
from node.chain.merkle import INSTRUCTION_LEAF, PAYMENT_LEAF, root
from node.chain.signature import INSTRUCTION_DOMAIN, Verify, verify
from node.chain.types import (
    NODE_ID_PREFIX,
    NODE_SIGNED,
    Envelope,
    Instruction,
    InstructionBody,
    Pay,
    Payment,
    SignedEnvelope,
)
from node.chain.uetr import UETR_BYTES, is_uuid4, uetr_text

MAX_INSTRUCTION_BYTES = 4_000_000
"""Bytes of one instruction: 10,000 payments of 400 bytes each. Fits a network frame of 4 MiB."""


class Refusal(StrEnum):
    """Why an instruction may not stand in any block, whatever the state."""

    MALFORMED = "malformed"
    TOO_LARGE = "too-large"
    PAYMENTS = "payments-mismatch"
    """The payments are not those under the signed root."""
    WRONG_CHAIN = "wrong-chain"
    IDENTIFIER = "bad-identifier"
    TEXT = "bad-text"
    UETR = "bad-uetr"
    REPEATED_UETR = "repeated-uetr"
    ORDER = "bad-order"
    """A list that must ascend does not."""
    SIGNATURE_ORDER = "signature-order"
    SIGNATURE = "bad-signature"


class InstructionRefused(ValueError):
    """An instruction that may not stand in a block."""

    def __init__(self, code: Refusal, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class ParsedInstruction(msgspec.Struct, frozen=True, eq=False):
    """Canonical, with its payments under the signed root. Says nothing about who sent it."""

    raw: bytes
    instruction: Instruction
    digest: bytes
    """Of the envelope: names the instruction in the mempool and in receipts, whoever signed."""
    signed_leaf_hash: bytes
    """Leaf of the signed envelope in the block's instruction tree."""
    payment_digests: list[bytes]
    """Leaf hashes of the payments, in order; equal for the same canonical payment. Empty for
    bodies without payments."""


class CheckedInstruction(ParsedInstruction, frozen=True, eq=False):
    """Passed `check_instruction`: all that remains needs the ledger's state."""


_decoder = msgspec.msgpack.Decoder(Instruction)
_TAG = b"\x94" + encode("instruction/1")
_SIGNED_TAG = b"\x93" + encode("signed-envelope/1")


def _array_header(count: int) -> bytes:
    """MessagePack's shortest array header."""
    if count < 16:
        return bytes((0x90 | count,))
    if count < 1 << 16:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")


def parse_instruction(raw: bytes) -> ParsedInstruction:
    """Decode an instruction and tie its payments to the signed root.

    Raises InstructionRefused (MALFORMED, TOO_LARGE or PAYMENTS).
    """
    if len(raw) > MAX_INSTRUCTION_BYTES:
        raise InstructionRefused(
            Refusal.TOO_LARGE,
            f"instruction of {len(raw):,} bytes; at most {MAX_INSTRUCTION_BYTES:,} are allowed: "
            "split it",
        )
    try:
        instruction = _decoder.decode(raw)
    except UNDECODABLE as error:
        raise InstructionRefused(Refusal.MALFORMED, f"not an instruction: {error}") from error
    envelope = encode(instruction.envelope)
    signed = envelope + encode(instruction.signatures)
    payments = [encode(payment) for payment in instruction.payments]
    if raw != b"".join((_TAG, signed, _array_header(len(payments)), *payments)):
        raise InstructionRefused(
            Refusal.MALFORMED,
            "not the canonical encoding of an instruction (over-long integer or length)",
        )
    prefix, hashed = PAYMENT_LEAF, sha256
    leaves = [hashed(prefix + payment).digest() for payment in payments]
    _check_payments_root(instruction.envelope.body, leaves)
    return ParsedInstruction(
        raw,
        instruction,
        digest(INSTRUCTION, envelope),
        sha256(INSTRUCTION_LEAF + _SIGNED_TAG + signed).digest(),
        leaves,
    )


def _check_payments_root(body: InstructionBody, leaves: list[bytes]) -> None:
    if not isinstance(body, Pay):
        if leaves:
            raise InstructionRefused(
                Refusal.PAYMENTS, f"{len(leaves)} payments beside a body that is no payment order"
            )
        return
    if body.payments_count != len(leaves):
        raise InstructionRefused(
            Refusal.PAYMENTS,
            f"{len(leaves)} payments, but {body.payments_count} were signed",
        )
    computed = root(leaves)
    if computed != body.payments_root:
        raise InstructionRefused(
            Refusal.PAYMENTS,
            f"the payments have root {computed.hex()}, but {body.payments_root.hex()} was signed",
        )


def check_instruction(raw: bytes, chain_id: bytes) -> CheckedInstruction:
    """Everything that needs no state. Raises InstructionRefused."""
    return check_parsed(parse_instruction(raw), chain_id)


def check_parsed(
    parsed: ParsedInstruction, chain_id: bytes, verify: Verify = verify
) -> CheckedInstruction:
    """The rest of `check_instruction` for an instruction already parsed.

    `verify`: who checks signatures elsewhere meanwhile says yes here, and answers for it: nothing
    that rests on them may be used before."""
    instruction = parsed.instruction
    envelope = instruction.envelope
    if envelope.chain_id != chain_id:
        raise InstructionRefused(
            Refusal.WRONG_CHAIN,
            f"signed for chain {envelope.chain_id.hex()}, this chain is {chain_id.hex()}",
        )
    # Signatures first: what thousands of payments say costs more to judge than 32 signatures,
    # and whoever signed can be held to it.
    _check_signatures(instruction, verify)
    body = envelope.body
    if type(body) is Pay:
        _check_names(envelope, instruction.payments, ())
        _check_uetrs(instruction.payments, ())
    else:
        payments = body_payments(body)
        _check_names(envelope, payments, body_identifiers(body))
        _check_uetrs(payments, body_uetrs(body))
        _check_order(body)
    return CheckedInstruction(
        parsed.raw,
        instruction,
        parsed.digest,
        parsed.signed_leaf_hash,
        parsed.payment_digests,
    )


def _check_names(envelope: Envelope, payments: Iterable[Payment], of_body: Iterable[str]) -> None:
    """Identifiers and texts. `of_body`: identifiers outside of payments."""
    if envelope.id.startswith(NODE_ID_PREFIX) is not (type(envelope.body) in NODE_SIGNED):
        raise InstructionRefused(
            Refusal.IDENTIFIER,
            f"id {envelope.id!r}: ids that start with {NODE_ID_PREFIX!r} are those of what a "
            "node's key signs, and of nothing else",
        )
    identifiers: set[str | None] = {envelope.sender, *of_body}
    texts: set[str | None] = set()
    for p in payments:
        identifiers.update((p.debtor, p.creditor, p.asset, p.debtor_indirect, p.creditor_indirect))
        texts.update((p.ultimate_debtor, p.ultimate_creditor, p.debtor_agent, p.creditor_agent))
    for identifier in identifiers:
        if identifier is not None and not (identifier.isascii() and identifier.isalnum()):
            raise InstructionRefused(
                Refusal.IDENTIFIER,
                f"{identifier!a} is no LEI or asset code: ASCII letters and digits only",
            )
    for text in texts:
        if text is not None:
            check_text(text)


def _check_order(body: InstructionBody) -> None:
    fault = disorder(body)
    if fault is not None:
        raise InstructionRefused(Refusal.ORDER, fault)


_unicode = unicodedata.ucd_3_2_0
_REFUSED_CATEGORIES = frozenset(("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"))
_SPACES = frozenset((" ", "\u3000"))
"""The ordinary and the ideographic one; others look like these or like nothing."""


def check_text(text: str) -> None:
    """Raise InstructionRefused unless the text is NFC, of assigned, visible characters.

    Judged by Unicode 3.2, which every Python carries beside its own version: two nodes on
    different Pythons must never disagree on whether a text may stand in a block. Control and
    formatting characters (line breaks, direction overrides) would let a signed name be shown as
    another.
    """
    if text.isascii() and text.isprintable():
        return
    for character in text:
        if _unicode.category(character) in _REFUSED_CATEGORIES and character not in _SPACES:
            raise InstructionRefused(
                Refusal.TEXT,
                f"{text!a} has the character U+{ord(character):04X}: control, formatting, "
                "odd space and unassigned characters (Unicode 3.2) are not allowed in names",
            )
    if _unicode.normalize("NFC", text) != text:
        raise InstructionRefused(Refusal.TEXT, f"{text!a} is not in Unicode form NFC")


_VERSIONS = bytes(range(0x40, 0x50))
_VARIANTS = bytes(range(0x80, 0xC0))


def _check_uetrs(payments: Sequence[Payment], of_body: Iterable[bytes]) -> None:
    """All are UUIDs of version 4, no two payments share one. `of_body`: named outside of them."""
    uetrs = [p.uetr for p in payments]
    previous = [(p.previous, p.uetr) for p in payments if p.previous is not None]
    named = [*(uetr for uetr, _ in previous), *of_body]
    # All at once: byte 6 of each holds the version, byte 8 the variant (RFC 9562).
    joined = b"".join((*uetrs, *named))
    if joined[6::UETR_BYTES].translate(None, _VERSIONS) or joined[8::UETR_BYTES].translate(
        None, _VARIANTS
    ):
        index, uetr = next((i, u) for i, u in enumerate((*uetrs, *named)) if not is_uuid4(u))
        place = f"payment {index}: " if index < len(uetrs) else ""
        raise InstructionRefused(Refusal.UETR, f"{place}{uetr_text(uetr)} is no UUID of version 4")
    for uetr, own in previous:
        if uetr == own:
            raise InstructionRefused(
                Refusal.REPEATED_UETR, f"{uetr_text(uetr)} says that it carries on itself"
            )
    if len(set(uetrs)) != len(uetrs):
        seen: set[bytes] = set()
        for index, uetr in enumerate(uetrs):
            if uetr in seen:
                raise InstructionRefused(
                    Refusal.REPEATED_UETR,
                    f"payment {index}: {uetr_text(uetr)} stands twice in this instruction",
                )
            seen.add(uetr)


def _check_signatures(instruction: Instruction, verify: Verify) -> None:
    previous = b""
    for signature in instruction.signatures:
        if signature.public_key <= previous:
            raise InstructionRefused(
                Refusal.SIGNATURE_ORDER,
                "the signatures do not stand strictly ascending by public key",
            )
        previous = signature.public_key
    envelope = instruction.envelope
    payload = encode(envelope)
    for signature in instruction.signatures:
        if not verify(
            signature.public_key,
            INSTRUCTION_DOMAIN,
            envelope.chain_id,
            payload,
            signature.signature,
        ):
            raise bad_signature(signature.public_key)


def bad_signature(public_key: bytes) -> InstructionRefused:
    """What `check_parsed` raises about a signature by this key that does not verify."""
    return InstructionRefused(
        Refusal.SIGNATURE, f"the signature of key {public_key.hex()} does not fit this envelope"
    )


# --- digests ----------------------------------------------------------------------------------


def payments_root(payments: Iterable[Payment]) -> bytes:
    """The root that a `Pay` body signs for."""
    return root([payment_digest(payment) for payment in payments])


def payment_digest(payment: Payment) -> bytes:
    """The payment's leaf hash: equal exactly for the same canonical payment."""
    return sha256(PAYMENT_LEAF + encode(payment)).digest()


def envelope_digest(envelope: Envelope) -> bytes:
    """The digest that names an instruction, whoever signed it."""
    return digest(INSTRUCTION, encode(envelope))


def signed_envelope_leaf(signed: SignedEnvelope) -> bytes:
    """The leaf of a signed envelope in a block's instruction tree."""
    return sha256(INSTRUCTION_LEAF + encode(signed)).digest()
