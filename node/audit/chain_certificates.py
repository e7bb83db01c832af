"""The certificates of a stored chain, each checked by the validator set of its own epoch.

The audit hands over every block with the set that its replay says was in force. Checked are: the
block's own finalization, if there is one; for a sealing block how its epoch ended, carriers and
all; and every notarization and nullification that is stored of the views up to the block. Those
decide nothing, but should the chain ever fork they name who made it: one that does not hold, or
that contradicts the chain, is found now and not then.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from consensus.certificate import BAD_SIGNATURE, opposed
from consensus.messages import Certificate, Kind
from node.audit.accountability import check_certificate
from node.audit.audit_report import Stop
from node.audit.build_chain import Seal
from node.audit.epochs import bad_signatures, check_carriers, check_finalization
from node.audit.fault import Fault, same
from node.audit.signatures import AtOnce, Checks
from node.chain.block import BodyMismatch, header_digest, inspect_block
from node.chain.types import Header, ValidatorSet

MAX_VIEWS = 1_024
"""Views whose certificates are asked for at a time: in an outage of days one block passes over
very many."""


class CertificateSource(Protocol):
    """What is read of a chain's certificates."""

    def finalization(self, height: int) -> Certificate | None:
        """The certificate that names this very height, or a carrier of it, if there is one."""

    def seal(self, epoch: int) -> Seal | None:
        """How this epoch ended; None while it has not."""

    def certificates(self, epoch: int, first_view: int, last_view: int) -> Iterable[Certificate]:
        """Notarizations and nullifications that are stored of these views."""


class ChainCertificates:
    """Checks a chain's certificates block by block, from height 1 on."""

    def __init__(
        self, source: CertificateSource, chain_id: bytes, checks: Checks | None = None
    ) -> None:
        self._source = source
        self._chain_id = chain_id
        self._checks = AtOnce() if checks is None else checks
        self.checked = 0
        """Certificates that hold."""
        self.signatures = 0

    def check(self, header: Header, parent: Header, validators: ValidatorSet) -> bool:
        """Whether the block has a certificate of its own, which is then sound.

        A block without one is final through a later one of its epoch, whose parent it is.
        `validators`: in force at the block. Raises Fault."""
        below = parent.view if parent.epoch == header.epoch else 0
        chain, certificate = [header], self._source.finalization(header.height)
        if header.next_validator_set != header.validator_set:
            chain, certificate = self._sealed(header, validators)
        if certificate is not None:
            over = chain[-2] if len(chain) > 1 else parent
            self._about(header.height, "certificate", validators)
            check_finalization(
                certificate,
                chain[-1],
                over,
                validators,
                chain_id=self._chain_id,
                verify=self._checks.verify,
            )
            self._count(certificate)
        self._check_passed(header.height, chain, below, validators, certificate)
        return certificate is not None

    def _sealed(self, header: Header, validators: ValidatorSet) -> tuple[list[Header], Certificate]:
        """The sealing block with its carriers, and what finalizes the last of them."""
        seal = self._source.seal(header.epoch)
        if seal is None:
            raise Fault("seal", "how the epoch ended", "nothing", "Its certificate is not stored.")
        same("seal.height", header.height, seal.height, "Another block is stored as the last.")
        carriers = []
        for number, raw in enumerate(seal.carriers):
            try:
                block = inspect_block(raw)
            except BodyMismatch as error:
                where = f"seal.carriers[{number}]"
                raise Fault(where, "a block", error, "It carries nothing.") from error
            carriers.append(block.header)
        check_carriers(header, carriers, validators, "seal.carriers")
        own = self._source.finalization(header.height)
        if own not in (None, seal.finalization):
            same("certificate", seal.finalization, own, "Two certificates are stored of one end.")
        return [header, *carriers], seal.finalization

    def _about(self, height: int, where: str, validators: ValidatorSet) -> None:
        """What the certificate is whose signatures are checked next."""

        def failure(_: bytes) -> Stop:
            return Stop.at(height, bad_signatures(where, validators, BAD_SIGNATURE))

        self._checks.about(failure)

    def _check_passed(
        self,
        height: int,
        chain: list[Header],
        below: int,
        validators: ValidatorSet,
        finalization: Certificate | None,
    ) -> None:
        """The other certificates of the views above the parent's, up to the last of `chain`."""
        blocks = {header.view: header for header in chain}
        last = chain[-1]
        for first in range(below + 1, last.view + 1, MAX_VIEWS):
            final = min(first + MAX_VIEWS - 1, last.view)
            for each in self._source.certificates(last.epoch, first, final):
                self._check_one(height, each, blocks.get(each.view), validators, finalization)
                if not first <= each.view <= final:
                    meaning = "It is of another block."
                    raise Fault("certificate.view", f"{first} to {final}", each.view, meaning)

    def _check_one(
        self,
        height: int,
        each: Certificate,
        block: Header | None,
        validators: ValidatorSet,
        finalization: Certificate | None,
    ) -> None:
        where = f"{each.kind.name.lower()} certificate of view {each.view}"
        self._about(height, where, validators)
        check_certificate(each, validators, self._chain_id, where, self._checks.verify)
        if each.kind is Kind.NOTARIZE and block is not None and each.content is not None:
            meaning = "More than f validators notarized two blocks of one view."
            same(f"{where}, block", header_digest(block), each.content.block, meaning)
        if finalization is not None and opposed(each, finalization):
            meaning = "More than f validators gave up a view that they finalized."
            raise Fault(where, "none", "one", meaning)
        self._count(each)

    def _count(self, certificate: Certificate) -> None:
        self.checked += 1
        self.signatures += len(certificate.signatures)
