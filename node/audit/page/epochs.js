// Who the validators of each epoch were, from the genesis file on, and what a quorum of them made
// final. The room of node/audit/epochs.py and consensus/certificate.py.

const KINDS = ["NOTARIZE", "NULLIFY", "FINALIZE"];
const [NOTARIZE, NULLIFY, FINALIZE] = [0n, 1n, 2n];

/** q = n − ⌊(n−1)/3⌋ */
function quorum(count) {
  return count - Math.floor((count - 1) / 3);
}

/** Index of the validator whose turn the view is. */
function leader(set, view) {
  return (set.epoch + view) % BigInt(set.validators.length);
}

/** Throw Fault unless the page knows the version of the rules that a header names. */
function known(where, version) {
  const versions = SCHEMA.supportedRules;
  const expected = versions.join(" or ");
  demand(versions.includes(Number(version)), where, expected, version,
    "This verifier knows other rules.");
}

/** The validator sets of epochs 0 … links.length: the genesis file's, and those that the links hand
    over to, one after another. Throws Fault. */
async function follow(genesis, links) {
  const sets = [genesis.validators];
  let [height, time] = [0n, genesis.time];
  for (const [number, link] of links.entries()) {
    const where = `epochs[${number}]`;
    const current = sets[number];
    checkSeal(link.seal, current, genesis, height, time, `${where}.seal`);
    checkCarriers(link.seal, link.carriers, current, `${where}.carriers`);
    const [parent, last] = endOf(link.seal, link.carriers);
    await checkFinalization(
      link.finalization, last, parent, current, genesis, `${where}.finalization`,
    );
    checkNextSet(link.validators, link.seal, `${where}.validators`);
    sets.push(link.validators);
    [height, time] = [link.seal.height, link.seal.timestamp];
  }
  return sets;
}

/** The block that a certificate through these carriers names, and the one below it if known. */
function endOf(block, carriers) {
  const chain = [block, ...carriers];
  return [carriers.length > 0 ? chain[chain.length - 2] : null, chain[chain.length - 1]];
}

function checkSeal(seal, current, genesis, height, time, where) {
  const meaning = "It is not the block that ends this epoch of this chain.";
  known(`${where}.version`, seal.version);
  same(`${where}.chain_id`, genesis.chainId, seal.chain_id, meaning);
  same(`${where}.epoch`, current.epoch, seal.epoch, meaning);
  same(`${where}.validator_set`, setDigest(current), seal.validator_set, meaning);
  same(`${where}.proposer`, leader(current, seal.view), seal.proposer, meaning);
  for (const [name, floor] of [["height", height], ["timestamp", time], ["view", 0n]]) {
    demand(seal[name] > floor, `${where}.${name}`, `above ${floor}`, seal[name], meaning);
  }
}

/** Check that the carriers chain from the block on and move nothing. There may be none. */
function checkCarriers(seal, carriers, set, where) {
  if (carriers.length === 0) return;
  const ends = !alike(seal.next_validator_set, seal.validator_set);
  demand(ends, where, "none", carriers.length, "The block below them ends no epoch.");
  const meaning = "It is no carrier, and a block above the sealing block is not of this epoch.";
  let parent = seal;
  carriers.forEach((carrier, number) => {
    const expected = {
      parent: headerDigest(parent), version: seal.version, chain_id: seal.chain_id,
      epoch: seal.epoch, height: seal.height, timestamp: seal.timestamp,
      proposer: leader(set, carrier.view), instructions_count: 0n, instructions_root: EMPTY_ROOT,
      outcomes_count: 0n, outcomes_root: EMPTY_ROOT, state_root: seal.state_root,
      history_root: seal.history_root, validator_set: seal.validator_set,
      next_validator_set: seal.next_validator_set,
    };
    const at = `${where}[${number}]`;
    for (const [name, value] of Object.entries(expected)) {
      same(`${at}.${name}`, value, carrier[name], meaning);
    }
    const rises = carrier.view > parent.view;
    demand(rises, `${at}.view`, `above ${parent.view}`, carrier.view, meaning);
    parent = carrier;
  });
}

/** Check that a quorum of these validators finalized this header's block. `parent`: the header
    below it, where that is known. Throws Fault. */
async function checkFinalization(certificate, block, parent, set, genesis, where) {
  const meaning = "Its signers finalized something else than this block.";
  const { content } = certificate;
  same(`${where}.kind`, "FINALIZE", KINDS[Number(certificate.kind)], meaning);
  same(`${where}.epoch`, block.epoch, certificate.epoch, meaning);
  same(`${where}.view`, block.view, certificate.view, meaning);
  same(`${where}.block`, headerDigest(block), content === null ? null : content.block, meaning);
  if (parent !== null) {
    // Below an epoch's first block is view 0, whatever view the old epoch's sealing block had.
    const view = parent.epoch === block.epoch ? parent.view : 0n;
    same(`${where}.parent_view`, view, content.parent_view, meaning);
  }
  await checkCertificate(certificate, set, genesis, where);
}

/** Check that q..n of these validators signed what the certificate says. The epoch is the caller's
    to compare. Throws Fault. */
async function checkCertificate(certificate, set, genesis, where) {
  const fault = await certificateFault(certificate, set, genesis);
  const expected = `signatures of a quorum of the validators of epoch ${set.epoch}`;
  demand(fault === null, `${where}.signatures`, expected, fault, "It is not shown to be agreed.");
}

async function certificateFault(certificate, set, genesis) {
  const fault = contentFault(certificate);
  if (fault !== null) return fault;
  const { signatures } = certificate;
  const count = set.validators.length;
  if (signatures.length < quorum(count)) return "fewer signatures than a quorum";
  if (!ascends(signatures, ([voter]) => voter)) return "signers are not strictly ascending";
  const [last] = signatures[signatures.length - 1];
  if (last >= BigInt(count)) return "a signer is not in the validator set";
  const payload = votePayload(certificate);
  for (const [voter, signature] of signatures) {
    const key = set.validators[Number(voter)].vote_key;
    const signed = await verify(key, "nostro.vote/1", genesis.chainId, payload, signature);
    if (!signed) return "a signature does not verify";
  }
  return null;
}

function votePayload({ epoch, view, kind, content }) {
  return encode(["vote-body/1", epoch, view, kind, content]);
}

/** Why a vote or certificate of this kind cannot have this content; null if it can. */
function contentFault({ view, kind, content }) {
  if (view < 1n) return "nothing is voted on in view 0";
  if (kind === NULLIFY) return content === null ? null : "a nullify has no content";
  if (content === null) return "a notarize or finalize names a block";
  return content.parent_view >= view ? "the parent's view is not below the block's" : null;
}

/** Check that this is the set that the sealing block hands over to. Throws Fault. */
function checkNextSet(set, seal, where) {
  same(`${where}.epoch`, seal.epoch + 1n, set.epoch, "The next epoch has the next number.");
  const meaning = "The sealing block names other validators.";
  same(where, seal.next_validator_set, setDigest(set), meaning);
  // One key in two places would let a quorum be met by fewer holders than it counts.
  const seen = new Set();
  set.validators.forEach((validator, number) => {
    const values = [validator.name, hex(validator.vote_key), hex(validator.node_key)];
    values.forEach((value, i) => {
      const at = `${where}[${number}].${["name", "vote_key", "node_key"][i]}`;
      const own = i === 0 ? `name ${value}` : value;
      demand(!seen.has(own), at, "one that no other member of the set has", value,
        "A quorum of this set could be met by fewer holders than it counts.");
      seen.add(own);
    });
  });
}
