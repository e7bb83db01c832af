"""Problem documents (RFC 9457): every error of the HTTP API, by a stable type.

Clients branch on `type` and on `outcome`, never on the text. `outcome` answers the one question
that decides whether sending again can pay twice (`node.api.service.Finality`). A code, once
published here, keeps its meaning; codes of instructions come from the chain and the ledger and
get a type of their own even where this table does not know them yet.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from node.api.service import Finality, SubmissionRefused

URN = "urn:nostro:problem:"
CONTENT_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a code means: HTTP status and title. `temporary`: the same request may succeed later,
    or at another node now."""

    status: int
    title: str
    temporary: bool = False


PROBLEMS: dict[str, Kind] = {
    # the request
    "bad-request": Kind(400, "The request is not well-formed"),
    "bad-parameter": Kind(400, "A parameter of the request is not valid"),
    "bad-uetr": Kind(400, "Not a UETR"),
    "bad-cursor": Kind(400, "Not a cursor of this list"),
    "not-found": Kind(404, "There is no such resource"),
    "method-not-allowed": Kind(405, "The resource does not support this method"),
    "request-timeout": Kind(408, "The request did not arrive in time", temporary=True),
    "too-large": Kind(413, "The request is larger than allowed"),
    "unsupported-media-type": Kind(415, "The content type is not the one expected"),
    "wrong-host": Kind(421, "The request is addressed to another host"),
    "too-many-streams": Kind(503, "Too many event streams are open", temporary=True),
    "internal-error": Kind(500, "The node failed to answer", temporary=True),
    # what is asked for
    "unknown-payment": Kind(404, "No final payment has this UETR"),
    "unknown-participant": Kind(404, "No participant has this name, LEI or BIC"),
    "unknown-instruction": Kind(404, "No final instruction has this sender and id"),
    "unknown-dispute": Kind(404, "This payment is not disputed"),
    "unknown-statement": Kind(404, "No such business day was closed"),
    "unknown-cycle": Kind(404, "The asset has no such clearing cycle"),
    "unknown-link": Kind(404, "No open link has this id"),
    "unknown-equivocation": Kind(404, "No equivocation of this validator in this view is known"),
    "unknown-block": Kind(404, "No final block has this height"),
    "uetr-used": Kind(409, "The UETR was used in this period"),
    "not-covered": Kind(409, "No committed set of used UETRs covers this period"),
    "pruned": Kind(410, "This node does not keep what is asked for"),
    "busy": Kind(429, "Too many large answers are under way", temporary=True),
    "no-snapshot": Kind(503, "There is no snapshot yet", temporary=True),
    "future-event": Kind(409, "The position lies beyond the last final block"),
    # instructions, whatever the state (node.chain.instruction)
    "malformed": Kind(400, "Not the canonical bytes of an instruction"),
    "payments-mismatch": Kind(422, "The payments are not those that were signed"),
    "wrong-chain": Kind(422, "Signed for another chain"),
    "bad-identifier": Kind(422, "Not a LEI or asset code"),
    "bad-text": Kind(422, "A text has characters that are not allowed"),
    "repeated-uetr": Kind(422, "A UETR stands twice in one instruction"),
    "bad-order": Kind(422, "A list in the instruction is not in its order"),
    "signature-order": Kind(422, "The signatures are not in their order"),
    "bad-signature": Kind(422, "A signature does not verify"),
    # instructions, as the ledger stands (node.ledger.check)
    "unknown-sender": Kind(422, "The sender is not a participant"),
    "unknown-key": Kind(422, "A signing key is not registered for the sender"),
    "invalid-key": Kind(422, "A signing key is not valid now"),
    "too-few-signatures": Kind(422, "Too few valid signatures"),
    "not-one-signature": Kind(422, "Not signed by one node key alone"),
    "expired": Kind(422, "The instruction has expired"),
    "valid-too-long": Kind(422, "The instruction is valid for longer than allowed"),
    "already-executed": Kind(409, "An instruction with this sender and id was executed"),
    "duplicate-id": Kind(409, "Another instruction with this sender and id is waiting"),
    # the node's ability to take them in
    "observer": Kind(503, "The node only observes and takes in no instructions", temporary=True),
    "sender-quota": Kind(429, "Too many instructions of this sender are waiting", temporary=True),
    "mempool-full": Kind(503, "Too many instructions are waiting", temporary=True),
    "not-ready": Kind(503, "The node cannot take in instructions now", temporary=True),
    "storage-failed": Kind(503, "The node could not make the instruction durable", temporary=True),
}
"""Every code that the API itself gives, and those of instructions that it has a title for."""

DEFAULT = Kind(422, "The instruction is refused")
"""For a code of the chain or the ledger that has no entry above."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The `application/problem+json` document."""

    type: str
    """Stable URN."""
    title: str
    status: int
    detail: str
    outcome: Finality

    @property
    def code(self) -> str:
        """The last part of the type."""
        return self.type.removeprefix(URN)

    @property
    def temporary(self) -> bool:
        """The same request may succeed later, or at another node now."""
        return kind_of(self.code).temporary


class Refused(Exception):
    """A request that is answered with a problem document."""

    def __init__(self, code: str, detail: str, outcome: Finality = "not submitted") -> None:
        super().__init__(detail)
        self.problem = problem(code, detail, outcome)


def kind_of(code: str) -> Kind:
    return PROBLEMS.get(code, DEFAULT)


def problem(code: str, detail: str, outcome: Finality = "not submitted") -> Problem:
    """The problem document of a code."""
    kind = kind_of(code)
    return Problem(
        type=URN + code, title=kind.title, status=kind.status, detail=detail, outcome=outcome
    )


def of_submission(refused: SubmissionRefused) -> Problem:
    """The problem document of an instruction that the node did not take in."""
    return problem(refused.code, refused.detail, refused.outcome)
