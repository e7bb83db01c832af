"""One sample of every byte format, and the golden file that pins their bytes.

`python -m tests.support.golden` writes the file again. A changed vector is a changed format: it
needs a new format version, or every signature and digest ever made stops fitting.
"""

from __future__ import annotations

import json
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from consensus import messages as m
from node.audit import epochs as e
from node.audit import proofs as p
from node.chain import records as r
from node.chain import types as t
from node.chain.block import (
    encode_block,
    genesis_header,
    header_digest,
    instructions_root,
    outcome_leaf,
    outcomes_root,
    validator_set_digest,
)
from node.chain.build import link_id, sign_instruction
from node.chain.encoding import RESOLUTION, digest, encode, framed
from node.chain.instruction import (
    check_instruction,
    envelope_digest,
    payment_digest,
    signed_envelope_leaf,
)
from node.chain.merkle import Frontier, history_leaf
from node.chain.signature import (
    INSTRUCTION_DOMAIN,
    POSSESSION_DOMAIN,
    RECEIPT_DOMAIN,
    possession_payload,
    preimage,
    prove_possession,
)
from node.chain.state_map import MapProof, Neighbour, StateMap, key_hash, record_digest
from node.chain.uetr_tree import uetr_root
from node.engine import snapshot as sn
from node.engine import window as w
from node.ledger.movements import body_digest, movement_digest
from node.storage import backup as b
from tests.support import golden_evidence, golden_settlement, world

PATH = Path(__file__).parent.parent / "vectors" / "golden.json"
SOURCE = "made by tests/support/golden.py of this project; Apache-2.0"


def _digest(text: str) -> bytes:
    return digest(framed("nostro.test/1"), text.encode())


def _vote(kind: m.Kind, content: m.Content | None, voter: int = 0) -> m.Vote:
    payload = m.vote_payload(0, 7, kind, content)
    signature = world.vote_signer(voter).sign(m.VOTE_DOMAIN, world.genesis().chain_id, payload)
    return m.Vote(0, 7, kind, content, voter, signature)


@cache
def samples() -> dict[str, Any]:
    """Name → value: at least one of every Struct that is hashed, signed, sent or stored."""
    chain_id = world.genesis().chain_id
    plain = world.payment(1)
    full = t.Payment(
        uetr=world.uetr(2),
        debtor=world.BANKA.lei,
        debtor_account=t.AccountKind.SETTLEMENT,
        creditor=world.BANKC.lei,
        creditor_account=t.AccountKind.SETTLEMENT,
        asset=world.CNY,
        amount=t.MAX_AMOUNT,
        payment_class=t.PaymentClass.INTERBANK,
        priority=t.Priority.HIGH,
        mode=t.Mode.GROSS,
        ultimate_debtor="Käufer GmbH",
        ultimate_creditor="收款人有限公司",
        debtor_agent="AGENT ONE",
        creditor_agent="AGENT TWO",
        earliest=world.GENESIS_TIME + 30_000,
        latest=world.GENESIS_TIME + 60_000,
        remittance_digest=_digest("remittance"),
        debtor_indirect=world.lei(9),
        creditor_indirect=world.lei(10),
        previous=world.uetr(7),
    )
    payments = (plain, full)
    pay = t.Pay(2, _payments_root(payments), True)
    envelope = t.Envelope(chain_id, world.BANKA.lei, "E2E-1", world.GENESIS_TIME + 3_600_000, pay)
    raw = sign_instruction(envelope, payments, [world.BANKA.key, world.signer("second key")])
    checked = check_instruction(raw, chain_id)
    signatures = checked.instruction.signatures
    new_key = world.signer("new key")
    possession = prove_possession(new_key, "participant", world.BANKA.lei, chain_id)
    settled = t.Outcome(
        1, world.GENESIS_TIME + 500, 0, 0, plain.uetr, "ACSC", None, -5, 125_000, None, None, None
    )
    rejected = replace(
        settled,
        height=300,
        instruction=2,
        payment=9_999,
        uetr=full.uetr,
        status="RJCT",
        reason="AM03",
        debtor_balance=None,
        creditor_balance=None,
    )
    repeated = replace(
        settled,
        height=70_000,
        payment=1,
        debtor_balance=None,
        creditor_balance=None,
        original=t.OutcomePlace(1, 0, 0),
    )
    resolved = replace(
        settled,
        height=301,
        instruction=None,
        original=t.OutcomePlace(300, 0, 0),
        content=payment_digest(plain),
        event=t.Together(digest(RESOLUTION, encode(world.EUR))),
    )
    header = t.Header(
        version=1,
        chain_id=chain_id,
        epoch=0,
        view=7,
        height=1,
        parent=header_digest(genesis_header(world.genesis(), _digest("state"))),
        timestamp=world.GENESIS_TIME + 500,
        proposer=3,
        instructions_count=1,
        instructions_root=instructions_root([checked]),
        outcomes_count=1,
        outcomes_root=outcomes_root([encode(settled)]),
        state_root=_digest("state 1"),
        history_root=_digest("history 1"),
        validator_set=validator_set_digest(world.genesis().validator_set),
        next_validator_set=validator_set_digest(world.genesis().validator_set),
    )
    block = encode_block(header, [raw])
    content = m.Content(0, header_digest(header))
    notarize = _vote(m.Kind.NOTARIZE, content)
    finalization = m.Certificate(
        0,
        7,
        m.Kind.FINALIZE,
        content,
        tuple((i, _vote(m.Kind.FINALIZE, content, i).signature) for i in range(3)),
    )
    proposal = m.Proposal(notarize, block)
    equivocation = m.Equivocation(
        notarize, _vote(m.Kind.NOTARIZE, m.Content(0, _digest("other block")))
    )
    account = r.AccountKey(world.BANKA.lei, world.EUR, t.AccountKind.SETTLEMENT)
    receipt = t.ReceiptBody(
        checked.digest, world.node_signer(0).public_key, 1, header_digest(header), 1_750_000_000_777
    )
    sender = r.ParticipantRecord(
        world.BANKA.lei,
        world.BANKA.bic,
        world.BANKA.name,
        world.BANKA.roles,
        (r.KeyRecord(world.BANKA.key.public_key, 0, None),),
        1,
        0,
        None,
        False,
        False,
        False,
        False,
        True,
        (t.Sweep(world.EUR, world.CENTRALBANK.lei),),
    )
    signed_receipt = t.Receipt(
        receipt, world.node_signer(0).sign(RECEIPT_DOMAIN, chain_id, encode(receipt))
    )
    joining = t.Validator(
        "node4",
        world.BANKB.lei,
        world.signer("joining vote").public_key,
        world.signer("joining node").public_key,
        "node4.bankb.example:4100",
    )
    possessions = (
        prove_possession(world.signer("joining vote"), "vote", joining.operator, chain_id),
        prove_possession(world.signer("joining node"), "node", joining.operator, chain_id),
    )
    changes = (t.AddValidator(joining, *possessions), t.RemoveValidator("node3"))
    pending = r.PendingEpoch((joining,), ("node4",), world.GENESIS_TIME + 60_000)
    epoch_link = e.EpochLink(header, (header,), finalization, world.genesis().validator_set)
    evidence = golden_evidence.Parts(
        header=header,
        finalization=finalization,
        link=epoch_link,
        signed=t.SignedEnvelope(envelope, signatures),
        payment=full,
        settled=settled,
        changed=resolved,
        sender=sender,
        receipt=signed_receipt,
    )
    nullification = replace(
        finalization,
        kind=m.Kind.NULLIFY,
        content=None,
        signatures=tuple((i, _vote(m.Kind.NULLIFY, None, i).signature) for i in range(3)),
    )
    branch = p.Branch(header, (header,), finalization)
    rival = p.Rival(_digest("other block"), (_digest("sibling"),))
    return (
        golden_settlement.samples()
        | golden_evidence.samples(evidence)
        | {
            "Payment": plain,
            "Payment, all fields": full,
            "Pay": pay,
            "Issue": t.Issue(world.uetr(3), world.EUR, world.BANKA.lei, 100_000_000_000),
            "Redeem": t.Redeem(world.uetr(4), world.EUR, 1),
            "RegisterKey": t.RegisterKey(new_key.public_key, possession),
            "RevokeKey": t.RevokeKey(new_key.public_key),
            "AddValidator": changes[0],
            "RemoveValidator": changes[1],
            "RekeyValidator": t.RekeyValidator(joining, *possessions),
            "Propose": t.Propose(changes, world.GENESIS_TIME + 86_400_000),
            "Propose, only a new epoch": t.Propose((), world.GENESIS_TIME + 86_400_000),
            "Approve": t.Approve(_digest("proposal")),
            "ReadyValidator": t.ReadyValidator("node4", 1, joining.vote_key, possessions[0]),
            "ReportEquivocation": t.ReportEquivocation(equivocation.first, equivocation.second),
            "Envelope": envelope,
            "KeySignature": signatures[0],
            "SignedEnvelope": t.SignedEnvelope(envelope, signatures),
            "Instruction": checked.instruction,
            "OutcomePlace": t.OutcomePlace(1, 0, 0),
            "Outcome, settled": settled,
            "Outcome, rejected": rejected,
            "Outcome, repeated": repeated,
            "Outcome, a change": resolved,
            "Validator": world.genesis().validator_set.validators[0],
            "Validator, with an address": joining,
            "ValidatorSet": world.genesis().validator_set,
            "Header, genesis": genesis_header(world.genesis(), _digest("state")),
            "Header": header,
            "Block": t.Block(header, (raw,)),
            "ReceiptBody": receipt,
            "Receipt": signed_receipt,
            "ParametersKey": r.ParametersKey(),
            "ParticipantKey": r.ParticipantKey(world.BANKA.lei),
            "AssetKey": r.AssetKey(world.EUR),
            "AccountKey": account,
            "EpochKey": r.EpochKey(),
            "ValidatorSetKey": r.ValidatorSetKey(1),
            "ValidatorKeyKey": r.ValidatorKeyKey(joining.vote_key),
            "ProposalKey": r.ProposalKey(_digest("proposal")),
            "EquivocationKey": r.EquivocationKey(0, 7, 0),
            "ParametersRecord": r.ParametersRecord(
                35 * 24 * 3600 * 1000, 2, 60_000, t.CloseRule.EXPIRE
            ),
            "KeyRecord": r.KeyRecord(world.BANKA.key.public_key, 0, 70_000),
            "ParticipantRecord": sender,
            "AssetRecord": r.AssetRecord(world.EUR, 2, world.CENTRALBANK.lei, False, 200, 100),
            "AccountRecord": r.AccountRecord(-1, 40, 60),
            "PendingEpoch": pending,
            "EpochRecord": r.EpochRecord(0, pending),
            "EpochRecord, none pending": r.EpochRecord(1, None),
            "ValidatorKeyRecord": r.ValidatorKeyRecord(joining.vote_key, joining.operator, "vote"),
            "ProposalRecord": r.ProposalRecord(
                _digest("proposal"),
                world.CENTRALBANK.lei,
                changes,
                world.GENESIS_TIME + 86_400_000,
                (world.CENTRALBANK.key.public_key,),
            ),
            "EquivocationRecord": r.EquivocationRecord(
                equivocation.first, equivocation.second, 70_000, world.BANKB.lei
            ),
            "Neighbour": Neighbour(key_hash(encode(account)), record_digest(b"")),
            "MapProof": MapProof((_digest("a"), bytes(32), _digest("b")), None),
            "MapProof, absent": MapProof(
                (_digest("a"),), Neighbour(key_hash(encode(account)), record_digest(b""))
            ),
            "Content": content,
            "VoteBody": m.VoteBody(0, 7, m.Kind.NOTARIZE, content),
            "Vote": notarize,
            "Vote, nullify": _vote(m.Kind.NULLIFY, None, 2),
            "Certificate": finalization,
            "Proposal": proposal,
            "BlockRequest": m.BlockRequest(0, 7, content.block),
            "BlockResponse": m.BlockResponse(0, block),
            "CertificateRequest": m.CertificateRequest(0, 1, 300),
            "OwnVotesRequest": m.OwnVotesRequest(0, 1_750_000_000_000),
            "OwnVotesResponse": m.OwnVotesResponse(0, 1, finalization, (notarize,)),
            "SyncRequest": m.SyncRequest(1),
            "SyncResponse": m.SyncResponse((block,), (), finalization),
            "EpochSealed": m.EpochSealed(3, (block,), finalization),
            "Equivocation": equivocation,
            "OwnVote": m.OwnVote(notarize),
            "OwnProposal": m.OwnProposal(proposal),
            "Body": m.Body(0, 7, block),
            "Certified": m.Certified(finalization),
            "Witnessed": m.Witnessed(equivocation),
            "EpochLink": epoch_link,
            "Branch": branch,
            "Rival": rival,
            "ForkProof": p.ForkProof((epoch_link,), branch, branch, rival, (nullification,)),
            "ForkProof, one height": p.ForkProof((), branch, branch, None, ()),
            "EquivocationProof": p.EquivocationProof((epoch_link,), equivocation),
            "Manifest": sn.Manifest(
                header,
                finalization,
                2,
                header,
                1,
                (sn.StateChunkRef(_digest("s"), 64, _digest("root")),) * 2,
                (sn.HistoryChunkRef(_digest("h"), 32),),
            ),
            "StateChunkRef": sn.StateChunkRef(_digest("s"), 64, _digest("root")),
            "HistoryChunkRef": sn.HistoryChunkRef(_digest("h"), 32),
            "StateChunk": sn.StateChunk(((encode(account), b"record"),)),
            "WindowBlock": w.WindowBlock(block, (b"outcome",)),
            "WindowAnswer": w.WindowAnswer((w.WindowBlock(block, (b"outcome",)),), 7, finalization),
            "BackupHead": b.BackupHead(
                _digest("chain"), 7, _digest("block"), 1_750_000_000_000, b"{}", b"[node]", b"{}"
            ),
            "BackupEntries": b.BackupEntries(((b"key", b"value"),)),
            "BackupEnd": b.BackupEnd(1),
        }
    )


def _payments_root(payments: tuple[t.Payment, ...]) -> bytes:
    """RFC 6962 root by its recursive definition, apart from `merkle.root`."""
    leaves = [payment_digest(p) for p in payments]
    return naive_root(leaves)


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word by word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def _derived() -> dict[str, bytes]:
    """Digests, leaves, roots and signature preimages of the samples."""
    values = samples()
    chain_id = world.genesis().chain_id
    header = values["Header"]
    account = encode(values["AccountKey"])
    record = encode(values["AccountRecord"])
    frontier, _ = Frontier().append(history_leaf(header_digest(values["Header, genesis"])))
    frontier, _ = frontier.append(history_leaf(header_digest(header)))
    new_key = values["RegisterKey"].public_key
    return {
        "chain id of the test genesis file": chain_id,
        "header digest": header_digest(header),
        "validator set digest": validator_set_digest(values["ValidatorSet"]),
        "instruction digest": envelope_digest(values["Envelope"]),
        "payment leaf": payment_digest(values["Payment"]),
        "group of a queue resolution in EUR": digest(RESOLUTION, encode(world.EUR)),
        "content digest of an Issue": body_digest(values["Issue"]),
        "content digest of BANKA's MoveOwn": movement_digest(world.BANKA.lei, values["MoveOwn"]),
        "link id": link_id(values["Link"].legs, values["Link"].expires),
        "signed envelope leaf": signed_envelope_leaf(values["SignedEnvelope"]),
        "outcome leaf": outcome_leaf(encode(values["Outcome, settled"])),
        "history leaf": history_leaf(header_digest(header)),
        "history root of genesis and Header": frontier.root(),
        "state key hash": key_hash(account),
        "state record digest": record_digest(record),
        "state root of one account": StateMap.empty().update({account: record}).root,
        "state root of one account and one asset": StateMap.empty()
        .update({account: record, encode(values["AssetKey"]): encode(values["AssetRecord"])})
        .root,
        "root of the UETRs of payments 0 to 64": uetr_root(sorted(map(world.uetr, range(65)))),
        "preimage of a vote": preimage(m.VOTE_DOMAIN, chain_id, encode(values["VoteBody"])),
        "preimage of an instruction": preimage(
            INSTRUCTION_DOMAIN, chain_id, encode(values["Envelope"])
        ),
        "preimage of a receipt": preimage(RECEIPT_DOMAIN, chain_id, encode(values["ReceiptBody"])),
        "preimage of a possession": preimage(
            POSSESSION_DOMAIN,
            chain_id,
            possession_payload("participant", world.BANKA.lei, new_key),
        ),
    }


def text() -> str:
    """The golden file as this code would write it."""
    document = {
        "source": SOURCE,
        "encodings": {name: encode(value).hex() for name, value in samples().items()},
        "derived": {name: value.hex() for name, value in _derived().items()},
        "genesis": world.genesis_bytes().decode(),
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
