// What digests are taken over, and the checks of Merkle paths, of state records, of UETR pages.

/** The (length, domain) prefix that keeps digests of different kinds apart. */
function framed(domain) {
  return joined(Uint8Array.of(domain.length), utf8(domain));
}

const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);
const EMPTY_ROOT = sha256(new Uint8Array(0));

/** A digest over (length, domain, bytes), and a leaf of an RFC 6962 tree over the same. */
function digestOf(domain) {
  const prefix = framed(domain);
  return (data) => sha256(joined(prefix, data));
}

function leafOf(domain) {
  const prefix = joined(LEAF, framed(domain));
  return (data) => sha256(joined(prefix, data));
}

const headerDigest = ((digest) => (header) => digest(header.raw))(digestOf("nostro.header/1"));
const setDigest = ((digest) => (set) => digest(set.raw))(digestOf("nostro.validator-set/1"));
const envelopeDigest = ((d) => (envelope) => d(envelope.raw))(digestOf("nostro.instruction/1"));
const linkDigest = digestOf("nostro.link/1");
const resolutionDigest = digestOf("nostro.resolution/1");
const paymentLeaf = ((leaf) => (payment) => leaf(payment.raw))(leafOf("nostro.payment/1"));
const outcomeLeaf = ((leaf) => (outcome) => leaf(outcome.raw))(leafOf("nostro.outcome/1"));
const signedLeaf = ((leaf) => (signed) => leaf(signed.raw))(leafOf("nostro.instruction/1"));
const historyLeaf = leafOf("nostro.history/1");
const pageLeaf = leafOf("nostro.uetr-page/1");
const stateKey = digestOf("nostro.state-key/1");
const stateRecord = digestOf("nostro.state-record/1");
const stateLeaf = digestOf("nostro.state-leaf/1");
const stateNode = digestOf("nostro.state-node/1");

/** A proof that does not show what it should; the text says why. */
class ProofError extends Error {}

function prove(holds, text) {
  if (!holds) throw new ProofError(text);
}

// --- RFC 6962 trees ---------------------------------------------------------------------------

function nodeHash(left, right) {
  return sha256(joined(NODE, left, right));
}

/** The root over leaf hashes, in order. */
function treeRoot(leaves) {
  if (leaves.length === 0) return EMPTY_ROOT;
  let level = leaves;
  while (level.length > 1) {
    const above = [];
    for (let i = 0; i + 1 < level.length; i += 2) above.push(nodeHash(level[i], level[i + 1]));
    // A last one without a sibling moves up as it is.
    if (level.length % 2 === 1) above.push(level[level.length - 1]);
    level = above;
  }
  return level[0];
}

/** Check that the leaf hash stands at `index` in the tree of `size` leaves with this root
    (RFC 9162, 2.1.3.2). Throws ProofError. */
function verifyInclusion(leaf, index, size, path, root) {
  prove(index < size, `leaf ${index} is not in a tree of ${size}`);
  let [at, last, computed] = [index, size - 1n, leaf];
  for (const sibling of path) {
    prove(last !== 0n, "more hashes than the path has");
    if (at & 1n || at === last) {
      computed = nodeHash(sibling, computed);
      while (!(at & 1n) && at !== 0n) [at, last] = [at >> 1n, last >> 1n];
    } else computed = nodeHash(computed, sibling);
    [at, last] = [at >> 1n, last >> 1n];
  }
  prove(last === 0n, "fewer hashes than the path has");
  prove(alike(computed, root), `the path leads to ${hex(computed)}, not to ${hex(root)}`);
}

/** Check a leaf's place in a tree. Throws Fault. */
function included(where, leaf, index, path, size, root, meaning) {
  try {
    verifyInclusion(leaf, index, size, path, root);
  } catch (error) {
    if (!(error instanceof ProofError)) throw error;
    const expected = `a path from leaf ${index} of ${size} to ${hex(root)}`;
    throw new Fault(where, expected, error.message, meaning);
  }
}

// --- the authenticated state ------------------------------------------------------------------

function bit(hash, depth) {
  return (hash[depth >> 3] >> (7 - (depth & 7))) & 1;
}

/** Check that the key has exactly this record under the root, or none if it is null. `key`: the
    values of the key, its name first. Throws ProofError. */
function verifyState(root, key, record, proof) {
  const hash = stateKey(encode(key));
  const { neighbour } = proof;
  let leaf = ZEROS;
  if (record !== null) {
    prove(neighbour === null, "a neighbour in a proof of presence");
    leaf = stateLeaf(joined(hash, stateRecord(record.raw)));
  } else if (neighbour !== null) {
    prove(!alike(neighbour.key_hash, hash), "the neighbour is the key itself: it is present");
    const beside = proof.siblings.every((_, i) => bit(neighbour.key_hash, i) === bit(hash, i));
    prove(beside, "the neighbour does not stand where the key would");
    leaf = stateLeaf(joined(neighbour.key_hash, neighbour.record_digest));
  }
  fold(root, hash, leaf, proof.siblings);
}

function fold(root, hash, leaf, siblings) {
  const deepest = siblings[siblings.length - 1];
  // A leaf or an empty place beside nothing would not stand this deep.
  prove(deepest === undefined || !alike(deepest, ZEROS), "the deepest sibling is empty");
  let node = leaf;
  for (let depth = siblings.length - 1; depth >= 0; depth -= 1) {
    const sibling = siblings[depth];
    node = stateNode(bit(hash, depth) ? joined(sibling, node) : joined(node, sibling));
  }
  prove(alike(node, root), `the path leads to ${hex(node)}, not to ${hex(root)}`);
}

/** Check a record of a state, or its absence. Throws Fault. */
function held(where, root, key, record, proof, expected, meaning) {
  try {
    verifyState(root, key, record, proof);
  } catch (error) {
    if (!(error instanceof ProofError)) throw error;
    throw new Fault(where, expected, error.message, meaning);
  }
}

// --- trees of used UETRs ----------------------------------------------------------------------

const UETR_BYTES = 16;
const PAGE_UETRS = 64n;

function uetrsOf(page) {
  const found = [];
  for (let at = 0; at < page.uetrs.length; at += UETR_BYTES) {
    found.push(page.uetrs.subarray(at, at + UETR_BYTES));
  }
  return found;
}

/** Check that a set of `count` UETRs with this root lacks `uetr`. Throws ProofError. */
function verifyUetrAbsent(root, count, uetr, pages) {
  if (count === 0n || pages.length === 0) {
    const empty = count === 0n && pages.length === 0 && alike(root, EMPTY_ROOT);
    prove(empty, "pages of an empty set, or none of another");
    return;
  }
  const last = (count + PAGE_UETRS - 1n) / PAGE_UETRS - 1n;
  for (const page of pages) checkPage(root, count, last, page);
  const [one, other] = pages;
  const adjacent = other === undefined || other.index === one.index + 1n;
  prove(adjacent, "the two pages do not stand beside each other");
  const all = pages.flatMap(uetrsOf);
  prove(!all.some((each) => alike(each, uetr)), "the UETR is in the set");
  const below = order(uetr, all[0]) < 0 && one.index !== 0n;
  const above = order(uetr, all[all.length - 1]) > 0 && pages[pages.length - 1].index !== last;
  prove(!below && !above, "the pages do not span the place of this UETR");
  if (other !== undefined) {
    const between = order(uetrsOf(one).pop(), uetr) < 0 && order(uetr, uetrsOf(other)[0]) < 0;
    prove(between, "one of the two pages shows nothing about this UETR");
  }
}

function checkPage(root, count, last, page) {
  prove(page.index <= last, `no page ${page.index} in a set of ${count}`);
  const size = page.index < last ? PAGE_UETRS : count - PAGE_UETRS * last;
  const fits = BigInt(page.uetrs.length) === size * BigInt(UETR_BYTES);
  prove(fits, `page ${page.index} has ${page.uetrs.length} bytes`);
  prove(ascends(uetrsOf(page), (each) => each), `page ${page.index} does not ascend`);
  verifyInclusion(pageLeaf(page.uetrs), page.index, last + 1n, page.path, root);
}
