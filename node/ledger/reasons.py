"""Why the ledger rejects: reasons of ISO 20022, each with one plain sentence.

Codes come from the external code set ExternalStatusReason; statuses are in
`node.chain.statuses`. Where the standard has no code for a ledger's rule, the nearest one is
used, and the sentence says what it means *here*. The sentence, not the code's official name,
is what the command line and the API show.
"""

from __future__ import annotations

from node.chain.statuses import (
    ACCEPTED,
    CANCELLED,
    FINAL_SETTLED,
    HELD,
    POSTED,
    QUEUED,
    REJECTED,
    RESERVED,
    SETTLED,
    UNDECIDED,
    status_word,
)

__all__ = [
    "ACCEPTED",
    "CANCELLED",
    "FINAL_SETTLED",
    "HELD",
    "POSTED",
    "QUEUED",
    "REJECTED",
    "RESERVED",
    "SETTLED",
    "UNDECIDED",
    "sentence",
    "status_word",
]

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

SUSPENDED = "AG01"
FROZEN = "AC06"
CLOSED_PARTICIPANT = "AC04"
WRONG_ACCOUNT_KIND = "AC14"
CLIENT_RESERVE_RULE = "AG03"
UNKNOWN_INDIRECT = "BE05"
WRONG_PHASE = "DT05"
EARLY = "DT06"
LIMIT_BELOW_USE = "AM12"
LIMIT = "AM14"
BEHIND_OTHERS = "AM19"
CAP_EXCEEDED = "AM23"
NO_NETTING = "AG02"
UNKNOWN_REFERENCE = "NOOR"
NOT_THE_PARTY = "DS0F"
NOT_CHANGEABLE = "ARDT"
NOTHING_TO_CHANGE = "DU05"
OVER_AMOUNT = "AM09"
PARTIES_MISMATCH = "BE01"
SAID_ALREADY = "DU02"
NOT_ASKED = "NOAS"
BAD_EXPIRY = "DT02"
BAD_PREIMAGE = "DS0B"
NO_PRICE = "CURR"
COLLATERAL_IN_USE = "AM07"
WRONG_ASSET_TYPE = "FF05"
WRONG_ROLE = "DS20"
SCHEDULE_GAP = "DT03"
NOT_THIS_PHASE = "DT04"
CYCLE_STATE = "ED06"
STILL_IN_USE = "AC05"
UNKNOWN_PARTICIPANT = "BE06"
BAD_ACTIVATION = "FF10"
BAD_PARAMETER = "FF03"
UNWOUND = "AB02"
GROUP_MISMATCH = "FF02"
BY_CUSTOMER = "CUST"
VOIDED = "CN01"

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
    SETTLEMENT_TIMEOUT: "Its latest settlement time, its expiry or its day had passed.",
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
    SUPPLY_LIMIT: "There would be more of the asset than the ledger can count.",
    # CreditorBankIsNotRegistered: with the clearing and settlement mechanism.
    UNKNOWN_CREDITOR: "The creditor is not a participant of this ledger.",
    # DataSignRequested: a signature is required.
    TOO_FEW_KEYS_LEFT: "The participant would have too few valid keys left to sign with.",
    # SignerCertificateRevoked.
    KEY_ALREADY_REVOKED: "The key is already revoked.",
    # SignerCertificateNotValid.
    UNSOUND_KEY: "The public key is not a sound Ed25519 key, or its possession is not proven.",
    # IncorrectSignerCertificate: the signer certificate is not present.
    NO_SUCH_KEY: "The participant has no such key.",
    # NotAllowedPayment: the signer may not sign this operation type.
    NOT_THE_ISSUER: "Only the asset's issuer may issue or redeem it.",
    # NotAllowedAccount: the signer may not sign for this account.
    NOT_OWN_ACCOUNT: "The debtor's account is not the sender's.",
    # NotAllowedNumberOfTransaction: over the number allowed for this signer.
    TOO_MANY_KEYS: "The participant would have had more keys than the ledger keeps for one.",
    # IdenticalSignatureFound.
    KEY_IN_USE: "The public key is, or was, already registered on this ledger.",
    # SettlementFailed.
    GROUP_FAILED: "Another payment of the same all-or-none instruction could not settle.",
    # IncorrectAgent: an agent in the workflow is incorrect.
    NOT_ELIGIBLE: "The named operator is no participant that may run a validator.",
    # InvalidNumberOfTransactions.
    SET_SIZE: "The next validator set would have no member, or more than 256.",
    # LimitExceeded.
    LIMIT_REACHED: "There are as many of these as there may be: open proposals, queued payments, "
    "open links, limits, or proofs against one key.",
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
    REPEATED_NAME: "The name, LEI, BIC or code is taken already, or a validator is changed twice "
    "at once.",
    # DuplicateTransaction.
    READY_ALREADY: "The validator is already ready for the next epoch.",
    # DuplicatePayment.
    REPORTED_ALREADY: "An equivocation of this validator in this view is already proven.",
    # NoDataAvailable.
    NO_SUCH_PROPOSAL: "No such proposal is open: it never was, expired, or was approved.",
    # TransactionForbidden.
    SUSPENDED: "A party to it is suspended.",
    # BlockedAccount.
    FROZEN: "An account is frozen by the supervisor.",
    # ClosedAccountNumber.
    CLOSED_PARTICIPANT: "A party to it has left the ledger.",
    # InvalidCreditorAccountType.
    WRONG_ACCOUNT_KIND: "These kinds of account do not pay each other in this way.",
    # TransactionNotSupported.
    CLIENT_RESERVE_RULE: "Client reserve pays customers with an ultimate debtor, refunds and "
    "other client reserve; else the supervisor must consent first.",
    # UnrecognisedInitiatingParty.
    UNKNOWN_INDIRECT: "The indirect participant named is not one of this direct participant's.",
    # InvalidCutOffDate.
    WRONG_PHASE: "The phase of the business day does not allow it.",
    # ExecutionDateChanged.
    EARLY: "Its earliest settlement time has not come.",
    # InvalidAmount.
    LIMIT_BELOW_USE: "The limit would be below what is already used of it.",
    # AmountExceedsAgreedLimit.
    LIMIT: "A bilateral or multilateral limit of the debtor does not allow it now.",
    # InvalidNumberOfTransactions.
    BEHIND_OTHERS: "Payments of the same account wait before it.",
    # AmountExceedsSettlementLimit.
    CAP_EXCEEDED: "The debtor's projected net debit would exceed its cap.",
    # InvalidBankOperationCode.
    NO_NETTING: "There is no net system for this asset, a party is no member of it, or this kind "
    "of payment settles gross only.",
    # NoOriginalTransactionReceived.
    UNKNOWN_REFERENCE: "The ledger knows no such payment, link or cycle, not with this content, or "
    "not as a settled one.",
    # NotAllowedPayment: the signer may not sign this operation.
    NOT_THE_PARTY: "The sender is not the party that may say this, or nobody is named who could.",
    # AlreadyReturned.
    NOT_CHANGEABLE: "It is decided, set aside, or in a cycle or link: it can no longer be changed.",
    # DuplicateInstructionID.
    NOTHING_TO_CHANGE: "It already is as this order would make it.",
    # WrongAmount.
    OVER_AMOUNT: "The amount is more than is left of the original, or not what may be posted.",
    # InconsistentWithEndCustomer.
    PARTIES_MISMATCH: "A return goes from the original's creditor to its debtor, in the same "
    "asset and accounts.",
    # DuplicatePaymentInformationID.
    SAID_ALREADY: "The sender has said this before.",
    # NoAnswerFromCustomer.
    NOT_ASKED: "No recall or dispute of this payment is open.",
    # InvalidCreationDate.
    BAD_EXPIRY: "The expiry has passed, lies too far ahead, or contradicts the other times.",
    # DataSignFormatError.
    BAD_PREIMAGE: "The preimage is missing or does not match the hash lock.",
    # IncorrectCurrency.
    NO_PRICE: "No price is posted for this security in this currency.",
    # BlockedAmount.
    COLLATERAL_IN_USE: "It covers credit that is drawn, or a net system requires it.",
    # InvalidLocalInstrumentCode.
    WRONG_ASSET_TYPE: "A security stands where a currency must, or the reverse.",
    # SignerNotAllowed.
    WRONG_ROLE: "The sender's role does not allow this order.",
    # InvalidNonProcessingDate.
    SCHEDULE_GAP: "The days do not follow on each other, or would change one that has begun.",
    # FutureDateNotSupported.
    NOT_THIS_PHASE: "The business date or phase is not the one that this order could change now.",
    # SettlementSystemNotAvailable.
    CYCLE_STATE: "The cycle's state does not allow this order.",
    # ClosedDebtorAccountNumber.
    STILL_IN_USE: "The participant still has money, obligations or open business.",
    # UnknownEndCustomer.
    UNKNOWN_PARTICIPANT: "The ledger has no such participant.",
    # BankSystemProcessingError.
    BAD_ACTIVATION: "The version is not the next one, the height does not lie ahead within reach, "
    "or another activation is approved.",
    # InvalidPaymentTypeInformation.
    BAD_PARAMETER: "A value of the change is not possible on this ledger, or nobody could govern "
    "it any more.",
    # AbortedClearingFatalError.
    UNWOUND: "Its clearing cycle could not be settled and was unwound.",
    # SyntaxErrorNarrative.
    GROUP_MISMATCH: "Payments that settle all or none must agree in account, asset, priority, "
    "class, mode and times.",
    # RequestedByCustomer.
    BY_CUSTOMER: "By order of the debtor.",
    # AuthorisationCancelled.
    VOIDED: "The creditor let the reservation go.",
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
