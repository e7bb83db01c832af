// Statuses, times, amounts and parties, for people and for the checks.

/** Codes of ISO 20022 ExternalPaymentTransactionStatus, with the ledger's words. */
const STATUS_WORDS = {
  ACSC: "settled", RJCT: "rejected", PDNG: "queued", BLCK: "held", ACSP: "accepted",
  ACWP: "reserved", ACCC: "posted", CANC: "cancelled",
};
const [SETTLED, REJECTED, QUEUED, HELD] = ["ACSC", "RJCT", "PDNG", "BLCK"];
const [ACCEPTED, RESERVED, POSTED, CANCELLED] = ["ACSP", "ACWP", "ACCC", "CANC"];
/** Statuses after which another may come. */
const OPEN_STATUSES = [QUEUED, HELD, ACCEPTED, RESERVED];
/** Statuses with which money moved, for good. */
const MOVED_STATUSES = [SETTLED, POSTED];
const EXPIRED_REASON = "AB03";
const VOIDED_REASON = "CN01";
const DUPLICATE_REASON = "AM05";

/** The ledger's word for a status with its reason. */
function statusWord(status, reason) {
  if (status === CANCELLED && reason === EXPIRED_REASON) return "expired";
  if (status === CANCELLED && reason === VOIDED_REASON) return "voided";
  return Object.hasOwn(STATUS_WORDS, status) ? STATUS_WORDS[status] : status;
}

/** A block's or a node's time, UTC. */
function timeText(ms) {
  const date = new Date(Number(ms));
  return Number.isNaN(date.getTime()) ? `${ms} ms since 1970` : date.toISOString();
}

/** An amount in minor units, with its asset in the decimals that the genesis file gives it. */
function amountText(minor, asset, genesis) {
  const row = genesis.assets.get(asset);
  if (row === undefined) {
    return `${minor} minor units of ${asset}, which the genesis file does not know,`;
  }
  const places = Number(row.exponent);
  const digits = String(minor < 0n ? -minor : minor).padStart(places + 1, "0");
  const whole = digits.slice(0, digits.length - places);
  const sign = minor < 0n ? "-" : "";
  return `${sign}${places ? `${whole}.${digits.slice(-places)}` : whole} ${asset}`;
}

/** A participant by LEI, with its name if the genesis file has it: a name that only the evidence
    gives, a forger may have chosen. */
function partyText(lei, genesis) {
  const name = genesis.names.get(lei);
  return name === undefined ? lei : `${name} (${lei})`;
}

function uetrText(uetr) {
  const digits = hex(uetr);
  const cuts = [0, 8, 12, 16, 20, 32];
  return cuts.slice(1).map((end, i) => digits.slice(cuts[i], end)).join("-");
}

/** Whether the 16 bytes are a UUID of version 4. */
function isUuid4(uetr) {
  return (uetr[6] & 0xf0) === 0x40 && (uetr[8] & 0xc0) === 0x80;
}
