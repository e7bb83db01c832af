"""The dossier of one payment: all that a third party needs besides the genesis file.

Parts carry the names of ISO/IEC 13888: origin (NRO) is the signed envelope with the payment, and
the proof that the keys were the sender's; transport (NRT) is the finality of the blocks and the
inclusion of instruction and outcome in them; submission (NRS) is the receipt of the node that
accepted it; delivery (NRD) is the creditor's acknowledgement, itself an instruction. Every byte is
signed, committed to by a header, or recomputed: none can be changed unseen.

A dossier speaks as of its *checkpoint*, the last of its blocks, which a certificate makes final.
Each of its other blocks is in the history of the checkpoint or, if its epoch ended before, of the
sealing block of its own epoch; so the validators of a block's own epoch signed for it. What became
of the payment up to the checkpoint is complete: its record in the checkpoint's state, or the
absence of one, counts and chains every later change.

Indexes stand beside their paths, tree sizes do not: an RFC 6962 root does not bind its size, so
the verifier takes it from the header or from what the sender signed. A part of a block names it by
the height that its outcome has.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from msgspec.structs import replace

from consensus.messages import Certificate
from node.audit.epochs import MAX_EPOCHS, Carriers, EpochLink
from node.chain.encoding import Malformed, decode, encode
from node.chain.merkle import MAX_PROOF
from node.chain.records import (
    AccountRecord,
    CycleRecord,
    DisputeRecord,
    ParticipantRecord,
    PaymentRecord,
)
from node.chain.state_map import MapProof
from node.chain.types import (
    Bytes32,
    Header,
    Outcome,
    Payment,
    Receipt,
    SignedEnvelope,
    Unsigned,
    _Canonical,
)

MAX_DOSSIER_BYTES = 64 << 20
"""Bytes: a century of monthly epochs with 256 validators each. An epoch takes about 0.16 kB a
validator; one that needed every carrier it may have takes 2 MB."""
MAX_STEPS = 10_000
"""Outcomes of one payment, and instructions about it, in one dossier."""
MAX_MEMBERS = 1_000_000
"""Payments that settled together, in one dossier."""

OLD_TAGS = (b"\xa9dossier/1", b"\xa9dossier/2")
"""How dossiers of earlier formats begin, after the byte that counts their fields."""

Path = Annotated[tuple[Bytes32, ...], Meta(max_length=MAX_PROOF)]
"""RFC 6962 audit path, lowest sibling first."""


class Place(_Canonical, frozen=True):
    """Where a leaf stands in its tree."""

    index: Unsigned
    path: Path


# --- blocks and why they are final ----------------------------------------------------------------


class ProvenBlock(_Canonical, frozen=True):
    """A block that a part of the evidence stands in."""

    header: Header
    parent: Header | None
    """Given exactly where the evidence proves something in the state before the block, and of a
    checkpoint that could be a carrier (`may_be_carrier`): its parent shows that it is none."""
    path: Path
    """Of its header digest, at index = its height, under the `history_root` of the checkpoint or,
    if its epoch ended before the checkpoint's, of its epoch's sealing block. Empty exactly if it is
    that block itself."""


Blocks = Annotated[tuple[ProvenBlock, ...], Meta(min_length=1, max_length=2 * MAX_STEPS)]
"""Ascending by height; the last is the checkpoint. None is there that nothing stands in."""


class EndedEpoch(_Canonical, frozen=True):
    """An epoch before the checkpoint's: its hand-over, and that history kept it."""

    link: EpochLink
    path: Path
    """Of the sealing block, at index = its height, under the `history_root` of the next epoch's
    sealing block; the last one's under that of the checkpoint."""


EndedEpochs = Annotated[tuple[EndedEpoch, ...], Meta(max_length=MAX_EPOCHS)]
"""All epochs before the checkpoint's, from 0 on."""


class Finality(_Canonical, frozen=True):
    """Why the checkpoint is final."""

    certificate: Certificate
    """A finalization by the validators of its epoch."""
    carriers: Carriers
    """From the checkpoint to what the certificate names, if it ends its epoch and became final
    through carriers."""


class Pinned(_Canonical, frozen=True):
    """An earlier block that the reader knows from elsewhere, and its place in this history."""

    height: Unsigned
    digest: Bytes32
    path: Path
    """At index = `height`, under the checkpoint's `history_root`."""


# --- what was ordered, and what became of it ------------------------------------------------------


class Authority(_Canonical, frozen=True):
    """Whose the signing keys were: the sender's record in the state before the block."""

    sender: ParticipantRecord
    proof: MapProof
    """Of the record under the `state_root` of the block's parent."""


class Act(_Canonical, frozen=True):
    """A signed instruction in a block."""

    signed: SignedEnvelope
    place: Place
    """Of the signed envelope under `instructions_root`."""
    authority: Authority | None
    """Mandatory for a verdict; without it the verifier cannot decide."""


class PaymentPart(_Canonical, frozen=True):
    """One payment of an instruction, without the others."""

    payment: Payment
    place: Place
    """Under `Pay.payments_root`."""


class Step(_Canonical, frozen=True):
    """An outcome of the payment."""

    outcome: Outcome
    place: Place
    """Under `outcomes_root`."""
    act: Act | None
    """The instruction that ordered the payment or brought the change about: given exactly where the
    outcome names one, unless it is that of the step before, in the same block."""


Steps = Annotated[tuple[Step, ...], Meta(min_length=1, max_length=MAX_STEPS)]
"""In order of height, then of the outcomes tree. The first is the payment's first outcome."""


class PaymentRow(_Canonical, frozen=True):
    """What the checkpoint's state holds of the payment: nothing, if it never changed after the
    block of its first outcome and nobody came back to it."""

    record: PaymentRecord | None
    proof: MapProof
    """Under the checkpoint's `state_root`, of `PaymentKey(uetr)`."""


class AccountRow(_Canonical, frozen=True):
    """An account in a state; None: it did not exist."""

    record: AccountRecord | None
    proof: MapProof


class Balances(_Canonical, frozen=True):
    """An account before and after the block in which the payment's money moved."""

    before: AccountRow
    """Under the `state_root` of the block's parent."""
    after: AccountRow
    """Under the block's own."""


class Related(_Canonical, frozen=True):
    """An accepted instruction about the payment that changed nothing of it: a recall or its
    refusal, a return, a dispute, an acknowledgement."""

    act: Act
    outcome: Outcome
    """Of the instruction; of a return: the first of the payment that gives back."""
    place: Place
    """Under `outcomes_root`."""


class DisputeRow(_Canonical, frozen=True):
    """How a dispute of the payment stood at the checkpoint."""

    record: DisputeRecord
    proof: MapProof
    """Under the checkpoint's `state_root`, of `DisputeKey(uetr)`."""


# --- what settled together ------------------------------------------------------------------------

Members = Annotated[tuple[Payment | Bytes32, ...], Meta(max_length=MAX_MEMBERS)]
"""Every payment that settled together, in order: in clear where the reader may see it, as its leaf
hash otherwise. A payment is salted, so that nobody can guess it from the hash."""


class Placed(_Canonical, frozen=True):
    """An outcome that is not of this payment alone."""

    outcome: Outcome
    place: Place
    """Under `outcomes_root` of the block of the outcome's height."""


class Gridlocked(_Canonical, frozen=True, tag="gridlocked/1"):
    """The payment settled by queue resolution, with others."""

    summary: Placed
    """Its event is a `Resolved` of the payment's asset, in the same block."""
    place: Place | None
    """Of the payment under `payments_root`. None exactly if `members` are given."""
    members: Members
    """All, or none."""


class Agreement(_Canonical, frozen=True):
    """A debtor's `Link` instruction."""

    height: Unsigned
    act: Act


class Linked(_Canonical, frozen=True, tag="linked/1"):
    """The payment is a leg of a linked settlement."""

    agreements: Annotated[tuple[Agreement, ...], Meta(max_length=MAX_STEPS)]
    """Of the other debtors, ascending by LEI: all of them once it settled, those that agreed so far
    before."""
    closed: Placed | None
    """Its event is the `LinkClosed`; None while the link is open."""


class Netted(_Canonical, frozen=True, tag="netted/1"):
    """The payment is in a clearing cycle, which decides it."""

    record: CycleRecord
    proof: MapProof
    """Under the checkpoint's `state_root`, of `CycleKey(asset, cycle)`."""
    closed: Placed | None
    """Its event is the `CycleClosed`; None while the cycle is open."""
    decided: Placed | None
    """Its event is the `CycleSettled` or `CycleUnwound`; None until then."""
    place: Place | None
    """Of the payment under `payments_root`; None while the cycle is open, or if `members` are
    given."""
    members: Members
    """All, or none."""


# --- the file -------------------------------------------------------------------------------------


class Dossier(_Canonical, frozen=True, tag="dossier/3"):
    """Evidence of one payment, issue, redemption or move between own accounts."""

    blocks: Blocks
    epochs: EndedEpochs
    finality: Finality | None
    """Mandatory for a verdict."""
    payment: PaymentPart | None
    """Of a `Pay` body, in the first step's instruction; None for any other body."""
    steps: Steps
    row: PaymentRow | None
    """Mandatory for a verdict."""
    debtor: Balances | None
    """Of the account that was debited, in the block where the money moved; None where none was."""
    creditor: Balances | None
    together: Gridlocked | Linked | Netted | None
    related: Annotated[tuple[Related, ...], Meta(max_length=MAX_STEPS)]
    """Ascending by height, then by index of the instruction."""
    dispute: DisputeRow | None
    receipt: Receipt | None
    """The accepting node's, if the client kept one."""
    pinned: Pinned | None
    """For a reader who pins a checkpoint of his own, earlier than this dossier's."""

    @property
    def checkpoint(self) -> Header:
        """The block as of which the dossier speaks."""
        return self.blocks[-1].header


class BadDossier(ValueError):
    """The file is no dossier; the text says what it is instead."""


def encode_dossier(dossier: Dossier) -> bytes:
    """The bytes of a dossier file."""
    return encode(dossier)


def decode_dossier(data: bytes) -> Dossier:
    """Read a dossier file. Raises BadDossier."""
    if not data:
        raise BadDossier("the file is empty")
    if len(data) > MAX_DOSSIER_BYTES:
        raise BadDossier(f"no dossier has more than {MAX_DOSSIER_BYTES:,} bytes, this file has")
    if data[1:11] in OLD_TAGS:
        raise BadDossier("it has an old format, which no node makes any more; have it made anew")
    try:
        return decode(data, Dossier)
    except Malformed as error:
        raise BadDossier(str(error)) from error


def attach_receipt(data: bytes, receipt: bytes) -> bytes:
    """The dossier with the submission receipt that the client kept. Raises BadDossier.

    Whether it fits is for the verifier to say.
    """
    try:
        kept = decode(receipt, Receipt)
    except Malformed as error:
        raise BadDossier(f"the receipt: {error}") from error
    return encode(replace(decode_dossier(data), receipt=kept))
