// Ed25519 as the chain demands it (node/chain/signature.py, ADR 0003): the cofactorless equation,
// S below the group's order, a key that is canonically encoded, and neither the key nor R of low
// order. What is accepted here no verifier anywhere refuses.
//
// The browser's own Ed25519 does the arithmetic if it decides the published edge cases as the chain
// does; browsers rest on different libraries. Otherwise, and where there is none, the arithmetic of
// the bundled library does.

/** No arithmetic here decides as the chain demands: no signature can be checked. */
class BadArithmetic extends Error {}

const ORDER = noble.Point.CURVE().n;
const PRIME = noble.Point.CURVE().p;

/** y coordinates of the points of order 1, 2, 4 and 8, canonical or not, little endian. */
const LOW_ORDER = new Set([
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0100000000000000000000000000000000000000000000000000000000000000",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]);

function littleEndian(bytes) {
  return BigInt(`0x${hex(Uint8Array.from(bytes).reverse())}`);
}

/** An encoded point without the sign of its x coordinate. */
function withoutSign(bytes) {
  const copy = Uint8Array.from(bytes);
  copy[31] &= 0x7f;
  return copy;
}

function ofLowOrder(point) {
  return LOW_ORDER.has(hex(withoutSign(point)));
}

function canonicalPoint(bytes) {
  return littleEndian(withoutSign(bytes)) < PRIME;
}

/** What must hold before any arithmetic: lengths, encodings, no low order. */
function wellFormed(key, signature) {
  if (key.length !== 32 || signature.length !== 64) return false;
  if (littleEndian(signature.subarray(32)) >= ORDER) return false;
  if (ofLowOrder(signature.subarray(0, 32)) || ofLowOrder(key)) return false;
  return canonicalPoint(key);
}

/** [S]B − [k]A, encoded, is R: exactly so, with no factor that would hide a part of low order. */
function arithmeticHere(key, message, signature) {
  const r = signature.subarray(0, 32);
  let point;
  try {
    point = noble.Point.fromBytes(key);
  } catch {
    return false; // no point of the curve
  }
  const k = littleEndian(sha512(joined(r, key, message))) % ORDER;
  const s = littleEndian(signature.subarray(32));
  const found = noble.Point.BASE.multiply(s, false).subtract(point.multiply(k, false));
  return order(found.toBytes(), r) === 0;
}

async function arithmeticOfBrowser(key, message, signature) {
  try {
    const held = await crypto.subtle.importKey("raw", key, "Ed25519", false, ["verify"]);
    return await crypto.subtle.verify("Ed25519", held, signature, message);
  } catch (error) {
    if (error instanceof DOMException && error.name === "DataError") return false;
    throw error;
  }
}

/** Plain Ed25519 over a message, with this arithmetic. Never throws on bad bytes. */
async function verifyWith(arithmetic, key, message, signature) {
  return wellFormed(key, signature) && (await arithmetic(key, message, signature));
}

/** Whether the key is a canonical point of the prime-order subgroup, and not its identity. */
function isSoundKey(key) {
  if (key.length !== 32 || ofLowOrder(key) || !canonicalPoint(key)) return false;
  try {
    return noble.Point.fromBytes(key).isTorsionFree();
  } catch {
    return false;
  }
}

/** Those of node/chain/signature.py: what it shows, valid or not, key, message, signature. */
const EDGE_CASES = [
  ["an ordinary signature (RFC 8032, 7.1, test 2)", true,
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    + "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"],
  ["the same with S + L: one signature, two encodings", false,
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    + "f52db7415978abc61b2c2eb6aeebfca0387b2eaeb4302aeeb00d291612bb0c10"],
  ["a mixed-order key, cofactorless equation satisfied (CCTV 50)", true,
    "10eb7c3acfb2bed3e0d6ab89bf5a3d6afddd1176ce4812e38d9fd485058fdb1f",
    "65643235353139766563746f72732035",
    "b62cf890de42c413b11b1411c9f01f1c4d77aa87ef182258d1251f69af2a3506"
    + "08f32d206a7c0b7efa9a59e66546e8f1f599ef843fb502c9cc3c4ae8b7c11e05"],
  ["a signature that only the cofactored equation accepts (CCTV 51)", false,
    "10eb7c3acfb2bed3e0d6ab89bf5a3d6afddd1176ce4812e38d9fd485058fdb1f",
    "65643235353139766563746f72732033",
    "b62cf890de42c413b11b1411c9f01f1c4d77aa87ef182258d1251f69af2a3506"
    + "030b03796b78f7afeadfccaedc9d09ce6d487d1ece1f16b1ae2b59b7e5c40603"],
  ["a key of low order (CCTV 303)", false,
    "0100000000000000000000000000000000000000000000000000000000000000",
    "65643235353139766563746f72732035",
    "b62cf890de42c413b11b1411c9f01f1c4d77aa87ef182258d1251f69af2a3506"
    + "05ba9a796274d80437afa36f1236563f2f3b0aa84cecddc3d20914615ba4fe02"],
  ["an R of low order (CCTV 304)", false,
    "ef75b20e7540e3dff77404193652ba2bd13df99c1508eee1515e27ae25f28076",
    "65643235353139766563746f72732037",
    "0100000000000000000000000000000000000000000000000000000000000000"
    + "330b30d6c1f07511e2208d233b6a34d4ed7109da2dea615bcd97daee3a842704"],
  ["a non-canonical key (CCTV 307)", false,
    "0100000000000000000000000000000000000000000000000000000000000080",
    "65643235353139766563746f72732031",
    "b62cf890de42c413b11b1411c9f01f1c4d77aa87ef182258d1251f69af2a3506"
    + "05ba9a796274d80437afa36f1236563f2f3b0aa84cecddc3d20914615ba4fe02"],
  ["a non-canonical R (CCTV 316)", false,
    "ef75b20e7540e3dff77404193652ba2bd13df99c1508eee1515e27ae25f28076",
    "65643235353139766563746f72732035",
    "0100000000000000000000000000000000000000000000000000000000000080"
    + "2d32f9eeccaa31dba2ff4ab4e196b61e2ee1648073bbb5f599dcff4f7ea02900"],
];

/** What this arithmetic decides otherwise than the chain demands; null if it decides all alike. */
async function surprise(arithmetic) {
  for (const [what, valid, ...parts] of EDGE_CASES) {
    const [key, message, signature] = parts.map(unhex);
    let found;
    try {
      found = await verifyWith(arithmetic, key, message, signature);
    } catch (error) {
      return `${what}: ${error.name}`;
    }
    if (found !== valid) return what;
  }
  return null;
}

let arithmeticFound = null;

/** The arithmetic that decides every edge case as the chain demands: the browser's if it does.
    Throws BadArithmetic if neither does. */
function arithmetic() {
  arithmeticFound ??= findArithmetic();
  return arithmeticFound;
}

async function findArithmetic() {
  const offered = globalThis.crypto?.subtle !== undefined;
  const why = offered ? await surprise(arithmeticOfBrowser) : "it offers none to this page";
  if (why === null) return { check: arithmeticOfBrowser, name: "the browser's own Ed25519" };
  const fault = await surprise(arithmeticHere);
  if (fault !== null) throw new BadArithmetic(`the bundled Ed25519 decides wrongly: ${fault}`);
  return { check: arithmeticHere, name: `the bundled Ed25519 (the browser's: ${why})` };
}

const CHECKS_BETWEEN_PAUSES = 32;
let checksSincePause = 0;

/** Let the browser draw and take input: thousands of signatures take their time. */
function pause() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

/** Whether `signature` is the key's over this payload, in this domain of this chain. */
async function verify(key, domain, chainId, payload, signature) {
  const { check } = await arithmetic();
  checksSincePause = (checksSincePause + 1) % CHECKS_BETWEEN_PAUSES;
  if (checksSincePause === 0) await pause();
  const message = encode(["nostro-signature/1", "ed25519", domain, chainId, payload]);
  return verifyWith(check, key, message, signature);
}
