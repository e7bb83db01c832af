"""Offline verification of a dossier: what it proves, to whom, and what it does not.

Trusted: the genesis file that the reader was handed (its digest is the chain id, it names the
first validators) and SHA-256 and Ed25519. Nothing else: no node, no network, no account. This
file, `dossier`, the certificate check of `consensus` and `node/chain` are all that runs.

Each check stands alone and says in one line what it found. Any that fails makes the dossier
INVALID; where a mandatory part is missing and nothing failed, the verdict is UNDECIDED. A claim
that a signing key was stolen is a dispute, and makes nothing invalid here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from consensus import certificate as certificates
from consensus.messages import Certificate, Kind
from node.audit.dossier import BadDossier, Dossier, Finality, Place, decode_dossier
from node.chain.block import RULE_VERSION, header_digest, outcome_leaf, validator_set_digest
from node.chain.encoding import encode
from node.chain.genesis import BadGenesis, Genesis, load_genesis
from node.chain.instruction import (
    envelope_digest,
    is_uuid4,
    payment_digest,
    signed_envelope_leaf,
    uetr_text,
)
from node.chain.merkle import ProofError, history_leaf, verify_inclusion
from node.chain.records import ParticipantKey
from node.chain.signature import (
    INSTRUCTION_DOMAIN,
    RECEIPT_DOMAIN,
    UnsafeLibsodium,
    self_check,
    verify,
)
from node.chain.state_map import verify_present
from node.chain.types import Header, Issue, Pay, Payment, Redeem

VALID, INVALID, UNDECIDED = "VALID", "INVALID", "UNDECIDED"
PASS, FAIL, NOTE = "PASS", "FAIL", "NOTE"
EXIT_CODES = {VALID: 0, INVALID: 1, UNDECIDED: 2}
NO_PAYMENT = "the payment is not in the dossier"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STATUSES = {"ACSC": "settled", "RJCT": "rejected"}
"""ISO 20022 status → the word that the interfaces use."""
DUPLICATE = "AM05"
"""ISO 20022 reason: the UETR was used before, for other content."""


@dataclass(frozen=True)
class Line:
    """The result of one check."""

    result: str
    """PASS, FAIL or NOTE."""
    check: str
    text: str

    def __str__(self) -> str:
        # Names in a forged dossier must not be able to move the cursor or hide a line.
        text = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in self.text)
        return f"{self.result}  {self.check}: {text}"


@dataclass
class Report:
    """What a dossier proves."""

    lines: list[Line] = field(default_factory=list)
    undecided: bool = False
    """A mandatory part is missing."""
    status: str | None = None
    """The proved status, "settled" or "rejected"; None unless the verdict is VALID."""
    dossier: Dossier | None = None

    @property
    def verdict(self) -> str:
        if any(line.result == FAIL for line in self.lines):
            return INVALID
        return UNDECIDED if self.undecided else VALID

    @property
    def exit_code(self) -> int:
        """0 for a sound proof of whatever status, 1 INVALID, 2 UNDECIDED."""
        return EXIT_CODES[self.verdict]

    def text(self) -> str:
        """One line a check, then the verdict."""
        return "\n".join([*map(str, self.lines), self.verdict]) + "\n"


class Fault(Exception):
    """A check failed: the field, what was expected and found, and what that means."""

    def __init__(self, where: str, expected: object, found: object, meaning: str) -> None:
        self.where, self.expected, self.found = where, shown(expected), shown(found)
        super().__init__(f"{where}: expected {self.expected}, found {self.found}. {meaning}")


class Missing(Exception):
    """A mandatory part is not in the dossier: the check can neither pass nor fail."""


class Absent(Exception):
    """An optional part is not in the dossier."""


def shown(value: object) -> str:
    """For people: bytes as hexadecimal digits."""
    return value.hex() if isinstance(value, bytes) else str(value)


def _same(where: str, expected: object, found: object, meaning: str) -> None:
    if expected != found:
        raise Fault(where, expected, found, meaning)


def verify_dossier(data: bytes, genesis_file: bytes) -> Report:
    """Check a dossier against a genesis file. Raises nothing."""
    try:
        self_check()
        genesis = load_genesis(genesis_file)
    except (UnsafeLibsodium, BadGenesis) as error:
        line = Line(NOTE, "genesis", f"nothing can be checked: {error}")
        return Report([line], undecided=True)
    return check_dossier(data, genesis)


def check_dossier(data: bytes, genesis: Genesis) -> Report:
    """`verify_dossier` for a genesis file already read, and a library already checked."""
    report = Report()
    try:
        dossier = decode_dossier(data)
    except BadDossier as error:
        report.lines.append(Line(FAIL, "file", f"this is not a dossier: {error}"))
        return report
    report.dossier = dossier
    for name, check in CHECKS:
        try:
            report.lines.append(Line(PASS, name, check(dossier, genesis)))
        except Fault as fault:
            report.lines.append(Line(FAIL, name, str(fault)))
        except Missing as missing:
            report.lines.append(Line(NOTE, name, f"cannot be decided: {missing}"))
            report.undecided = True
        except Absent as absent:
            report.lines.append(Line(NOTE, name, str(absent)))
    report.lines += [Line(NOTE, name, text) for name, text in _notes(dossier, genesis)]
    if report.verdict == VALID:
        report.status = STATUSES[dossier.outcome.status]
    return report


# --- the block --------------------------------------------------------------------------------


def _check_chain(dossier: Dossier, genesis: Genesis) -> str:
    header = dossier.header
    meaning = "This is evidence about another chain than the genesis file describes."
    _same("header.chain_id", genesis.chain_id, header.chain_id, meaning)
    _same("envelope.chain_id", genesis.chain_id, dossier.signed.envelope.chain_id, meaning)
    _same("header.version", RULE_VERSION, header.version, "This verifier knows other rules.")
    return f"network {genesis.network}, chain {genesis.chain_id.hex()}"


def _check_validators(dossier: Dossier, genesis: Genesis) -> str:
    validators = _finality(dossier).validators
    expected = validator_set_digest(genesis.validator_set)
    header, meaning = dossier.header, "The genesis file names other validators."
    _same("validators", expected, validator_set_digest(validators), meaning)
    _same("header.validator_set", expected, header.validator_set, meaning)
    _same("header.epoch", validators.epoch, header.epoch, "Another epoch has another set.")
    return f"the {len(validators.validators)} validators of the genesis file, epoch 0"


def _check_finality(dossier: Dossier, genesis: Genesis) -> str:
    finality, authority = _finality(dossier), dossier.authority
    certificate, later = finality.certificate, finality.later
    certified = dossier.header if later is None else later.header
    parent = authority.parent if later is None and authority is not None else None
    check_finalization(certificate, certified, parent, genesis)
    signers, validators = len(certificate.signatures), len(genesis.validator_set.validators)
    return f"block {certified.height} finalized by {signers} of {validators} validators"


def check_finalization(
    certificate: Certificate, header: Header, parent: Header | None, genesis: Genesis
) -> None:
    """Check that a quorum of the genesis validators finalized this header's block.

    `parent`: its parent's header, where that is known. Raises Fault."""
    what = "Its signers finalized something else than this block."
    _same("certificate.kind", Kind.FINALIZE.name, certificate.kind.name, what)
    _same("certificate.epoch", header.epoch, certificate.epoch, what)
    _same("certificate.view", header.view, certificate.view, what)
    content = certificate.content
    block = None if content is None else content.block
    _same("certificate.block", header_digest(header), block, what)
    if parent is not None and content is not None:
        _same("certificate.parent_view", parent.view, content.parent_view, what)
    chain_id, validators = genesis.chain_id, genesis.validator_set.validators
    try:
        keys = [validator.vote_key for validator in validators]
        certificates.check(certificate, keys, lambda k, d, p, s: verify(k, d, chain_id, p, s))
    except certificates.BadCertificate as error:
        raise Fault(
            "certificate.signatures",
            "signatures of a quorum of validators",
            error.reason,
            "The block is not shown to be final.",
        ) from error


def _check_ancestry(dossier: Dossier, genesis: Genesis) -> str:
    later, header = _finality(dossier).later, dossier.header
    if later is None:
        return f"the certificate names block {header.height} itself"
    _same("later.chain_id", genesis.chain_id, later.header.chain_id, "It is another chain's.")
    _same(
        "later.epoch",
        header.epoch,
        later.header.epoch,
        "A certificate of one epoch covers no block of another.",
    )
    _included(
        "later.path",
        history_leaf(header_digest(header)),
        Place(header.height, later.path),
        size=later.header.height,
        root=later.header.history_root,
        meaning="The finalized block does not have this block in its history.",
    )
    return f"block {header.height} is in the history of block {later.header.height}"


# --- what was ordered, and by whom ------------------------------------------------------------


def _check_signatures(dossier: Dossier, genesis: Genesis) -> str:
    envelope = dossier.signed.envelope
    payload = encode(envelope)
    previous = b""
    for signature in dossier.signed.signatures:
        key = signature.public_key
        if key <= previous:
            raise Fault(
                "envelope.signatures",
                "strictly ascending keys",
                key,
                "A key is counted twice or out of order.",
            )
        previous = key
        if not verify(key, INSTRUCTION_DOMAIN, genesis.chain_id, payload, signature.signature):
            raise Fault(
                "envelope.signatures",
                f"a signature by {key.hex()}",
                signature.signature,
                "The holder of this key did not sign this envelope.",
            )
    return f"instruction {envelope.id} signed by {len(dossier.signed.signatures)} key(s)"


def _check_authority(dossier: Dossier, genesis: Genesis) -> str:
    authority, header = dossier.authority, dossier.header
    if authority is None:
        raise Missing("there is no proof of whose the signing keys were")
    parent, sender = authority.parent, authority.sender
    meaning = "The keys are proven in a state that this block does not build on."
    _same("header.parent", header_digest(parent), header.parent, meaning)
    _same("parent.height", header.height - 1, parent.height, meaning)
    key = encode(ParticipantKey(dossier.signed.envelope.sender))
    try:
        verify_present(parent.state_root, key, encode(sender), authority.proof)
    except ProofError as error:
        raise Fault(
            "authority.proof",
            f"the record of {dossier.signed.envelope.sender} under the parent's state_root",
            error,
            "The ledger did not hold this record for the sender.",
        ) from error
    known = {record.public_key: record for record in sender.keys}
    for signature in dossier.signed.signatures:
        record = known.get(signature.public_key)
        if record is None or not record.is_valid(header.height):
            raise Fault(
                "envelope.signatures",
                f"a key of {sender.name} valid at height {header.height}",
                signature.public_key,
                "The signer had no authority for this sender at that height.",
            )
    if len(dossier.signed.signatures) < sender.threshold:
        raise Fault(
            "envelope.signatures",
            f"at least {sender.threshold} keys",
            len(dossier.signed.signatures),
            "The sender's policy asks for more signatures.",
        )
    return f"valid keys of {sender.name} ({sender.lei}, {sender.bic}) at height {header.height}"


def _check_payment(dossier: Dossier, genesis: Genesis) -> str:
    body, part = dossier.signed.envelope.body, dossier.payment
    if isinstance(body, Pay):
        if part is None:
            raise Missing(NO_PAYMENT)
        _included(
            "payment.path",
            payment_digest(part.payment),
            part.place,
            size=body.payments_count,
            root=body.payments_root,
            meaning="This payment is not one that the sender signed.",
        )
        order: Payment | Issue | Redeem = part.payment
        parties = f"from {part.payment.debtor} to {part.payment.creditor}"
        ordered = f"payment {part.place.index} of {body.payments_count}"
    elif isinstance(body, Issue | Redeem):
        _same("payment", None, part, "This instruction orders no payment.")
        order = body
        ordered = type(body).__name__.lower()
        parties = f"to {body.creditor}" if isinstance(body, Issue) else "of the issuer's own"
    else:
        raise Fault(
            "envelope.body", "an order about money", type(body).__name__, "It moves no money."
        )
    if not is_uuid4(order.uetr):
        raise Fault("payment.uetr", "a UUID of version 4", order.uetr, "It is no UETR.")
    if STATUSES.get(dossier.outcome.status) == "settled":
        sender = dossier.signed.envelope.sender
        meaning = "It settled without the order of whose money it is."
        _same("envelope.sender", _payer(dossier, genesis) or sender, sender, meaning)
    amount = _amount(order.amount, order.asset, genesis)
    return f"{ordered}: {amount} {parties}, UETR {uetr_text(order.uetr)}"


def _payer(dossier: Dossier, genesis: Genesis) -> str | None:
    """Whose order it takes: the debtor's, or the issuer's of what is issued or redeemed."""
    body, part = dossier.signed.envelope.body, dossier.payment
    if isinstance(body, Issue | Redeem):
        return next((a.issuer for a in genesis.assets if a.code == body.asset), None)
    return None if part is None else part.payment.debtor


# --- what became of it ------------------------------------------------------------------------


def _check_instruction(dossier: Dossier, genesis: Genesis) -> str:
    header, place = dossier.header, dossier.instruction
    _included(
        "instruction.path",
        signed_envelope_leaf(dossier.signed),
        place,
        size=header.instructions_count,
        root=header.instructions_root,
        meaning="The block does not hold this signed instruction here.",
    )
    return f"instruction {place.index} of {header.instructions_count} in block {header.height}"


def _check_outcome(dossier: Dossier, genesis: Genesis) -> str:
    header, outcome, place = dossier.header, dossier.outcome, dossier.outcome_place
    _included(
        "outcome.path",
        outcome_leaf(encode(outcome)),
        place,
        size=header.outcomes_count,
        root=header.outcomes_root,
        meaning="The block does not hold this outcome here.",
    )
    if outcome.status not in STATUSES:
        raise Fault(
            "outcome.status", " or ".join(STATUSES), outcome.status, "It is no known status."
        )
    said = f"{STATUSES[outcome.status]} ({outcome.status}"
    said += f", reason {outcome.reason})" if outcome.reason else ")"
    for party, balance in (
        ("debtor", outcome.debtor_balance),
        ("creditor", outcome.creditor_balance),
    ):
        if balance is not None:
            said += f", {party}'s balance then {balance} minor units"
    return f"{said}, in block {outcome.height} at {_time(outcome.time)}"


def _check_link(dossier: Dossier, genesis: Genesis) -> str:
    """That the outcome is this payment's and not another one's of the same block."""
    outcome, part, body = dossier.outcome, dossier.payment, dossier.signed.envelope.body
    if isinstance(body, Pay) and part is None:
        raise Missing(NO_PAYMENT)
    meaning = "The outcome belongs to another payment."
    _same("outcome.height", dossier.header.height, outcome.height, meaning)
    _same("outcome.time", dossier.header.timestamp, outcome.time, meaning)
    _same("outcome.instruction", dossier.instruction.index, outcome.instruction, meaning)
    _same("outcome.payment", part.place.index if part else 0, outcome.payment, meaning)
    uetr = part.payment.uetr if part else getattr(body, "uetr", None)
    _same("outcome.uetr", uetr, outcome.uetr, meaning)
    return f"the outcome is that of [{outcome.instruction}, {outcome.payment}] under this UETR"


def _check_receipt(dossier: Dossier, genesis: Genesis) -> str:
    receipt = dossier.receipt
    if receipt is None:
        raise Absent("none of an accepting node is here; inclusion needs none")
    body = receipt.body
    _same(
        "receipt.instruction",
        envelope_digest(dossier.signed.envelope),
        body.instruction,
        "The receipt is for another instruction.",
    )
    names = {v.node_key: v.name for v in genesis.validator_set.validators}
    if body.node not in names:
        raise Fault("receipt.node", "the key of a validator's node", body.node, "Unknown node.")
    if not verify(body.node, RECEIPT_DOMAIN, genesis.chain_id, encode(body), receipt.signature):
        raise Fault(
            "receipt.signature",
            f"a signature of {names[body.node]}",
            receipt.signature,
            "That node did not sign this receipt.",
        )
    return (
        f"{names[body.node]} stated to have it, not before block {body.height} was final "
        f"(by its clock {_time(body.time)})"
    )


CHECKS: tuple[tuple[str, Callable[[Dossier, Genesis], str]], ...] = (
    ("chain", _check_chain),
    ("validators", _check_validators),
    ("finality", _check_finality),
    ("ancestry", _check_ancestry),
    ("signatures", _check_signatures),
    ("authority", _check_authority),
    ("payment", _check_payment),
    ("instruction", _check_instruction),
    ("outcome", _check_outcome),
    ("link", _check_link),
    ("receipt", _check_receipt),
)


def _notes(dossier: Dossier, genesis: Genesis) -> Iterator[tuple[str, str]]:
    yield (
        "checkpoint",
        "none given. Shown: a quorum of the genesis validators signed this history and this "
        "inclusion. Not shown: that none of their keys was ever stolen, that this is the "
        "latest state of the payment, nor, without a replay, that execution was right",
    )
    yield "delivery", "no acknowledgement of the receiving institution; finality needs none"
    if (original := dossier.outcome.original) is not None:
        yield (
            "retry",
            "this order repeated a payment already decided, and moved no money itself; the "
            f"outcome that stands is [{original.instruction}, {original.payment}] in block "
            f"{original.height}",
        )
    if _payer(dossier, genesis) not in (None, dossier.signed.envelope.sender):
        text = "not given by whose money it is: tells nothing of their own order under this UETR"
        yield "order", text
    if dossier.outcome.reason == DUPLICATE:
        yield "duplicate", "another payment stands under this UETR, which may have settled"


# --- helpers ----------------------------------------------------------------------------------


def _finality(dossier: Dossier) -> Finality:
    if dossier.finality is None:
        raise Missing("there is no proof that the block is final")
    return dossier.finality


def _included(
    where: str, leaf: bytes, place: Place, *, size: int, root: bytes, meaning: str
) -> None:
    try:
        verify_inclusion(leaf, place.index, size, place.path, root)
    except ProofError as error:
        expected = f"a path from leaf {place.index} of {size} to {root.hex()}"
        raise Fault(where, expected, error, meaning) from error


def _time(ms: int) -> str:
    try:
        return (EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")
    except OverflowError:
        return f"{ms} ms since 1970"


def _amount(minor: int, asset: str, genesis: Genesis) -> str:
    exponent = next((a.exponent for a in genesis.assets if a.code == asset), None)
    if exponent is None:
        return f"{minor} minor units of {asset}, which the genesis file does not know,"
    digits = f"{minor:0{exponent + 1}d}"
    return f"{digits[:-exponent]}.{digits[-exponent:]} {asset}" if exponent else f"{digits} {asset}"
