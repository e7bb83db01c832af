"""Why the ledger rejects: statuses and reasons of ISO 20022, each with one plain sentence.

Codes come from the external code sets ExternalPaymentTransactionStatus and
ExternalStatusReason. Where the standard has no code for a ledger's rule, the nearest one is
used, and the sentence says what it means *here*. The sentence, not the code's official name,
is what the command line and the API show.
"""

from __future__ import annotations

SETTLED = "ACSC"
"""AcceptedSettlementCompleted: executed, final and irrevocable."""
REJECTED = "RJCT"
"""Rejected: nothing moved."""

SETTLEMENT_TIMEOUT = "AB03"
UNKNOWN_ACCOUNT = "AC03"
NO_ACCESS_RIGHT = "AG08"
SAME_ACCOUNT = "AG12"
ZERO_AMOUNT = "AM01"
AMOUNT_TOO_LARGE = "AM02"
UNKNOWN_ASSET = "AM03"
INSUFFICIENT_FUNDS = "AM04"
DUPLICATE = "AM05"
SUPPLY_LIMIT = "AM13"
UNKNOWN_CREDITOR = "CNOR"
TOO_FEW_KEYS_LEFT = "DS0A"
KEY_ALREADY_REVOKED = "DS0C"
UNSOUND_KEY = "DS0D"
NO_SUCH_KEY = "DS0E"
NOT_THE_ISSUER = "DS0G"
NOT_OWN_ACCOUNT = "DS0H"
TOO_MANY_KEYS = "DS0K"
KEY_IN_USE = "DS15"
GROUP_FAILED = "ED05"

NOT_ELIGIBLE = "AGNT"
SET_SIZE = "AM18"
LIMIT_REACHED = "AM21"
VOTE_NOT_SIGNED = "DS11"
NOT_ITS_NODE = "DS12"
UNKNOWN_VALIDATOR = "DS14"
NO_CONTRADICTION = "DS17"
NOT_AN_OPERATOR = "DS19"
PROPOSAL_EXPIRED = "DS24"
APPROVED_ALREADY = "DS26"
EXPIRY_OUT_OF_RANGE = "DT01"
REPEATED_NAME = "DU01"
READY_ALREADY = "DU03"
REPORTED_ALREADY = "DUPL"
NO_SUCH_PROPOSAL = "TD01"
NOT_PENDING = "TM01"

SENTENCES: dict[str, str] = {
    # AbortedSettlementTimeout: settlement aborted due to timeout.
    SETTLEMENT_TIMEOUT: "The payment's latest settlement time had passed.",
    # InvalidCreditorAccountNumber.
    UNKNOWN_ACCOUNT: "The creditor is a participant but its roles allow it no account.",
    # InvalidAccessRights: invalid or missing user or access right.
    NO_ACCESS_RIGHT: "The sender's roles allow it no account to pay from.",
    # NotAllowedBookTransfer: between accounts of one institution.
    SAME_ACCOUNT: "Debtor and creditor account are the same.",
    # ZeroAmount.
    ZERO_AMOUNT: "The amount is zero.",
    # NotAllowedAmount: greater than the allowed maximum.
    AMOUNT_TOO_LARGE: "The amount, or the creditor's balance with it, is more than an account "
    "can hold.",
    # NotAllowedCurrency: a currency that cannot be processed.
    UNKNOWN_ASSET: "The ledger has no such currency or asset.",
    # InsufficientFunds.
    INSUFFICIENT_FUNDS: "The debtor's account does not cover the amount.",
    # Duplication.
    DUPLICATE: "The UETR was already used for a payment with other content.",
    # AmountExceedsClearingSystemLimit.
    SUPPLY_LIMIT: "The asset's issued total would be more than the ledger can count.",
    # CreditorBankIsNotRegistered: with the clearing and settlement mechanism.
    UNKNOWN_CREDITOR: "The creditor is not a participant of this ledger.",
    # DataSignRequested: a signature is required.
    TOO_FEW_KEYS_LEFT: "After this revocation the sender would have too few keys to sign with.",
    # SignerCertificateRevoked.
    KEY_ALREADY_REVOKED: "The key is already revoked.",
    # SignerCertificateNotValid.
    UNSOUND_KEY: "The public key is not a sound Ed25519 key, or its possession is not proven.",
    # IncorrectSignerCertificate: the signer certificate is not present.
    NO_SUCH_KEY: "The sender has no such key.",
    # NotAllowedPayment: the signer may not sign this operation type.
    NOT_THE_ISSUER: "Only the asset's issuer may issue or redeem it.",
    # NotAllowedAccount: the signer may not sign for this account.
    NOT_OWN_ACCOUNT: "The debtor's account is not the sender's.",
    # NotAllowedNumberOfTransaction: over the number allowed for this signer.
    TOO_MANY_KEYS: "The sender has had as many keys as the ledger keeps for one participant.",
    # IdenticalSignatureFound.
    KEY_IN_USE: "The public key is, or was, already registered on this ledger.",
    # SettlementFailed.
    GROUP_FAILED: "Another payment of the same all-or-none instruction could not settle.",
    # IncorrectAgent: an agent in the workflow is incorrect.
    NOT_ELIGIBLE: "The named operator is no participant that may run a validator.",
    # InvalidNumberOfTransactions.
    SET_SIZE: "The next validator set would have no member, or more than 256.",
    # LimitExceeded.
    LIMIT_REACHED: "The sender has as many open proposals as it may, or enough equivocations are "
    "already proven against this key.",
    # Signer1CertificateNotValid.
    VOTE_NOT_SIGNED: "A vote in the report does not bear the signature of the validator it names.",
    # IncorrectSigner1Certificate.
    NOT_ITS_NODE: "The instruction is not signed by the node of the validator it names.",
    # UserDoesNotExist.
    UNKNOWN_VALIDATOR: "The validator set that this is about has no such validator.",
    # DifferentOrderDataInSignatures.
    NO_CONTRADICTION: "The two votes do not contradict each other.",
    # ElectronicSignatureRightsInsufficient: to execute the order.
    NOT_AN_OPERATOR: "Only a participant with the role operator proposes and approves.",
    # WaitingTimeExpired: due to an incomplete order.
    PROPOSAL_EXPIRED: "The proposal expired before it had enough approvals.",
    # UserSignedMultipleTimes.
    APPROVED_ALREADY: "Every key that signed had approved this proposal before.",
    # InvalidDate.
    EXPIRY_OUT_OF_RANGE: "A proposal must expire after the block that opens it and within 30 days.",
    # DuplicateMessageID.
    REPEATED_NAME: "A validator of this name is in the set already, or is changed twice at once.",
    # DuplicateTransaction.
    READY_ALREADY: "The validator is already ready for the next epoch.",
    # DuplicatePayment.
    REPORTED_ALREADY: "An equivocation of this validator in this view is already proven.",
    # NoDataAvailable.
    NO_SUCH_PROPOSAL: "No such proposal is open: it never was, expired, or was approved.",
    # InvalidCutOffTime: received after the cut-off.
    NOT_PENDING: "The epoch is not the one that is pending.",
}
"""What each reason means on this ledger."""

WITHOUT_AUTHORITY = frozenset({NO_ACCESS_RIGHT, NOT_THE_ISSUER, NOT_OWN_ACCOUNT})
"""Rejections of a sender who had no say over the payment. They do not use up its UETR, and are
not found under it: otherwise anybody who sees a payment on its way could send a copy ahead of
it. The debtor's own instruction would be answered with that rejection, or the debtor be told of
it, pay again, and have paid twice once its first instruction settles."""

OF_GOVERNANCE = frozenset(
    {
        NOT_ELIGIBLE,
        SET_SIZE,
        LIMIT_REACHED,
        VOTE_NOT_SIGNED,
        NOT_ITS_NODE,
        UNKNOWN_VALIDATOR,
        NO_CONTRADICTION,
        NOT_AN_OPERATOR,
        PROPOSAL_EXPIRED,
        APPROVED_ALREADY,
        EXPIRY_OUT_OF_RANGE,
        REPEATED_NAME,
        READY_ALREADY,
        REPORTED_ALREADY,
        NO_SUCH_PROPOSAL,
        NOT_PENDING,
    }
)
"""Rejections of instructions that move no money and concern the validators."""


def sentence(reason: str) -> str:
    """The plain sentence of a reason code; the bare code for one that this version lacks."""
    return SENTENCES.get(reason, f"Rejected with reason {reason}.")
