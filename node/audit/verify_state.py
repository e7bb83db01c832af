"""What a file proves of the ledger's state: what an account held after a block, and that no outcome
of consecutive blocks names a UETR.

Why the blocks are final is shown, and checked, as in a dossier; then one check says what stands in
the state that they commit to. What such a file does not show: that no key of the past was stolen
nor, without a replay, that execution was right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from node.audit import verify_finality as finality
from node.audit.fault import Fault, same
from node.audit.proofs import BadProof
from node.audit.report import FAIL, NOTE, VALID, AbsenceFacts, BalanceFacts, Line, Report
from node.audit.state_proofs import AbsenceProof, BalanceProof, TreeAbsence, decode_state_proof
from node.audit.verify_checkpoint import Pin, check_pin
from node.audit.verify_finality import Evidence, checkpoint
from node.audit.wording import amount_text, decimals, party_text, time_text
from node.chain.block import header_digest
from node.chain.encoding import encode
from node.chain.genesis import Genesis
from node.chain.merkle import ProofError
from node.chain.records import AccountKey, UetrTreeKey
from node.chain.uetr import uetr_text
from node.chain.uetr_tree import verify_uetr_absent

P = TypeVar("P", BalanceProof, AbsenceProof)
Check = Callable[[P, Genesis], str]

ACCOUNTS = ("settlement", "client-reserve", "collateral", "margin", "fund", "capital")
"""Words for `AccountKind`, by number."""
_NOT_SHOWN = (
    "none given. Shown: a quorum of each epoch's validators, from the genesis file's on, signed "
    "this state. Not shown: that none of their keys was ever stolen nor, without a replay, that "
    "execution was right"
)
_CYCLES = (
    "the outcome that settles a clearing cycle names none of its payments: one that joined a cycle "
    "before these blocks may have settled in them"
)


def check_balance_proof(data: bytes, genesis: Genesis, pin: Pin | None = None) -> Report:
    """What the proof of a balance proves. Raises nothing."""
    return _checked(data, genesis, pin, kind=BalanceProof, checks=BALANCE_CHECKS)


def check_absence_proof(data: bytes, genesis: Genesis, pin: Pin | None = None) -> Report:
    """What the proof of an absence proves. Raises nothing."""
    return _checked(data, genesis, pin, kind=AbsenceProof, checks=ABSENCE_CHECKS)


def _checked(
    data: bytes,
    genesis: Genesis,
    pin: Pin | None,
    *,
    kind: type[P],
    checks: Sequence[tuple[str, Check[P]]],
) -> Report:
    what = str(kind.__struct_config__.tag).partition("/")[0]
    report = Report()
    try:
        proof = decode_state_proof(data, kind)
    except BadProof as error:
        report.lines.append(Line(FAIL, "file", f"this is not a proof of {what}: {error}"))
        return report
    report.kind = what
    for name, check in checks:
        report.run(name, partial(check, proof, genesis))
    if isinstance(proof, AbsenceProof) and proof.trees[0].record.after > 0:
        report.lines.append(Line(NOTE, "cycles", _CYCLES))
    if pin is None:
        report.lines.append(Line(NOTE, "checkpoint", _NOT_SHOWN))
    else:
        report.run("pinned", partial(_check_pinned, proof, pin))
    if report.verdict == VALID:
        report.state = _facts(proof, genesis)
    return report


def _check_pinned(proof: Evidence, pin: Pin) -> str:
    return check_pin(pin, finality.headers_of(proof), None, checkpoint(proof))


# --- a balance --------------------------------------------------------------------------------


def _check_balance_history(proof: BalanceProof, genesis: Genesis) -> str:
    return finality.check_history(proof, genesis, {proof.blocks[0].header.height}, ())


def check_balance(proof: BalanceProof, genesis: Genesis) -> str:
    """What the account held after the first of the blocks."""
    record, header = proof.row.record, proof.blocks[0].header
    key = encode(AccountKey(proof.participant, proof.asset, proof.account))
    raw = None if record is None else encode(record)
    finality.check_row("row", key, raw, proof.row.proof, header.state_root)
    word = ACCOUNTS[proof.account].replace("-", " ")
    whose = f"{word} account of {party_text(proof.participant, genesis)}"
    when = f"after block {header.height} at {time_text(header.timestamp)}"
    if record is None:
        return f"the {proof.asset} {whose} did not exist {when}"
    balance, reserved, line = (
        amount_text(minor, proof.asset, genesis)
        for minor in (record.balance, record.reserved, record.line)
    )
    return f"the {whose} held {balance} {when}, {reserved} of it set aside; credit line {line}"


# --- an absence -------------------------------------------------------------------------------


def _check_absence_history(proof: AbsenceProof, genesis: Genesis) -> str:
    meaning = "The trees stand in the checkpoint's state alone."
    same("blocks", 1, len(proof.blocks), meaning)
    return finality.check_history(proof, genesis, (), ())


def check_absence(proof: AbsenceProof, genesis: Genesis) -> str:
    """That consecutive trees, all in the checkpoint's state, lack the UETR."""
    root = checkpoint(proof).state_root
    before: TreeAbsence | None = None
    for number, tree in enumerate(proof.trees):
        where, record = f"trees[{number}]", tree.record
        if before is not None:
            gap = "Between two trees there would be blocks of which nothing is shown."
            same(f"{where}.number", before.number + 1, tree.number, gap)
            same(f"{where}.record.after", before.record.through, record.after, gap)
        key = encode(UetrTreeKey(tree.number))
        finality.check_row(f"{where}.record", key, encode(record), tree.proof, root)
        try:
            verify_uetr_absent(record.root, record.count, proof.uetr, tree.pages)
        except ProofError as error:
            expected = f"pages of {record.count} UETRs that span its place"
            meaning = "That the UETR was not used is not shown."
            raise Fault(f"{where}.pages", expected, error, meaning) from error
        before = tree
    first, last = proof.trees[0].record, proof.trees[-1].record
    return (
        f"no outcome of the blocks {first.after + 1} to {last.through}, after "
        f"{time_text(first.after_time)} up to {time_text(last.through_time)}, names UETR "
        f"{uetr_text(proof.uetr)}"
    )


_FINAL: tuple[tuple[str, Callable[[Evidence, Genesis], str]], ...] = (
    ("chain", finality.check_chain),
    ("validators", finality.check_validators),
    ("seals", finality.check_seals),
    ("finality", finality.check_finality),
)
BALANCE_CHECKS: tuple[tuple[str, Check[BalanceProof]], ...] = (
    *_FINAL,
    ("history", _check_balance_history),
    ("balance", check_balance),
)
ABSENCE_CHECKS: tuple[tuple[str, Check[AbsenceProof]], ...] = (
    *_FINAL,
    ("history", _check_absence_history),
    ("absence", check_absence),
)


# --- for programs -----------------------------------------------------------------------------


def _facts(proof: BalanceProof | AbsenceProof, genesis: Genesis) -> BalanceFacts | AbsenceFacts:
    top = checkpoint(proof)
    seen = (top.height, header_digest(top).hex())
    if isinstance(proof, AbsenceProof):
        first, last = proof.trees[0].record, proof.trees[-1].record
        return AbsenceFacts(
            uetr_text(proof.uetr),
            first.after + 1,
            last.through,
            first.after_time,
            last.through_time,
            *seen,
        )
    record, header = proof.row.record, proof.blocks[0].header
    balance = 0 if record is None else record.balance
    return BalanceFacts(
        proof.participant,
        proof.asset,
        ACCOUNTS[proof.account],
        header.height,
        header.timestamp,
        record is not None,
        balance,
        decimals(balance, proof.asset, genesis),
        0 if record is None else record.reserved,
        0 if record is None else record.line,
        *seen,
    )
