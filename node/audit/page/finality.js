// Why the blocks of a piece of evidence are final, and who made them so. The room of
// node/audit/verify_finality.py.
//
// The last block is the checkpoint: a quorum of its epoch's validators finalized it, or a carrier
// of it. Every other block is in its history or, if its epoch ended before, in that of the sealing
// block of its own epoch.

const OTHER_HEIGHT = "The validators of one epoch decide no height of another.";

function checkpointOf(evidence) {
  return evidence.blocks[evidence.blocks.length - 1].header;
}

/** The set that the last link names; the check "validators" says whether it is true. */
function declaredValidators(evidence, genesis) {
  const { epochs } = evidence;
  return epochs.length === 0 ? genesis.validators : epochs[epochs.length - 1].link.validators;
}

/** Every validator of an epoch up to the checkpoint's. */
function membersOf(evidence, genesis) {
  const sets = [genesis.validators, ...evidence.epochs.map((each) => each.link.validators)];
  return sets.flatMap((set) => set.validators);
}

/** Every header that the evidence shows to be of its history, if its checks pass. */
function headersOf(evidence) {
  const blocks = evidence.blocks.flatMap(({ header, parent }) => (
    parent === null ? [header] : [header, parent]));
  return [...evidence.epochs.map((each) => each.link.seal), ...blocks];
}

/** Block by height, as the parts of the evidence name them. */
class Blocks {
  constructor(evidence) {
    this.byHeight = new Map(evidence.blocks.map((block) => [block.header.height, block]));
  }

  /** Throws Fault if the evidence does not have it. */
  at(height, where) {
    const block = this.byHeight.get(height);
    const meaning = "It stands in a block that is not in the evidence.";
    demand(block !== undefined, where, "a height of one of the blocks", height, meaning);
    return block;
  }
}

/** That every header is of the genesis file's chain, under rules that are known here. */
function checkChain(evidence, genesis) {
  const meaning = "This is evidence about another chain than the genesis file describes.";
  evidence.blocks.forEach((block, number) => {
    for (const name of ["header", "parent"]) {
      const found = block[name];
      if (found === null) continue;
      same(`blocks[${number}].${name}.chain_id`, genesis.chainId, found.chain_id, meaning);
      known(`blocks[${number}].${name}.version`, found.version);
    }
  });
  return `network ${genesis.network}, chain ${hex(genesis.chainId)}`;
}

/** Who the validators of each epoch were, and that each block names those of its own. */
async function checkEpochs(evidence, genesis) {
  const sets = await follow(genesis, evidence.epochs.map((each) => each.link));
  const last = sets[sets.length - 1];
  const meaning = "The block is of another epoch than the links lead to, so of other validators.";
  same("checkpoint.epoch", last.epoch, checkpointOf(evidence).epoch, meaning);
  const digests = sets.map(setDigest);
  evidence.blocks.forEach(({ header: { epoch, validator_set: set } }, number) => {
    const where = `blocks[${number}].header`;
    const reached = epoch < BigInt(sets.length);
    demand(reached, `${where}.epoch`, `at most ${last.epoch}`, epoch, meaning);
    same(`${where}.validator_set`, digests[Number(epoch)], set, meaning);
  });
  const count = last.validators.length;
  if (sets.length === 1) return `the ${count} validators of the genesis file, epoch 0`;
  return `the ${count} validators of epoch ${last.epoch}; a quorum of each epoch's signed for the `
    + "next, from the genesis file's on";
}

/** That every sealing block so far is in the history that the next epoch's validators signed. */
function checkSeals(evidence) {
  const top = checkpointOf(evidence);
  const seals = evidence.epochs.map((each) => each.link.seal);
  if (seals.length === 0) return "no epoch ended before this block";
  const last = seals[seals.length - 1];
  demand(top.height > last.height, "checkpoint.height", `above ${last.height}`, top.height,
    OTHER_HEIGHT);
  evidence.epochs.forEach(({ link: { seal }, path }, number) => {
    const after = seals[number + 1] ?? top;
    included(`epochs[${number}].path`, historyLeaf(headerDigest(seal)), seal.height, path,
      after.height, after.history_root,
      "The history that was signed next does not have this sealing block.");
  });
  return `${seals.length} sealing block(s) in the history of what follows, the last at `
    + `${last.height}`;
}

/** That a quorum of its epoch's validators finalized the checkpoint. */
async function checkFinality(evidence, genesis) {
  const { finality } = evidence;
  if (finality === null) throw new Missing("there is no proof that the checkpoint is final");
  const { header, parent } = evidence.blocks[evidence.blocks.length - 1];
  const set = declaredValidators(evidence, genesis);
  const { carriers, certificate } = finality;
  checkCarriers(header, carriers, set, "finality.carriers");
  const [below, last] = endOf(header, carriers);
  await checkFinalization(certificate, last, below ?? parent, set, genesis, "certificate");
  const through = carriers.length ? `, through ${carriers.length} block(s) that carry it,` : "";
  return `block ${header.height}${through} finalized by ${certificate.signatures.length} of `
    + `${set.validators.length} validators`;
}

/** That every block is in the history that its own epoch's validators signed, and that none is
    there for nothing. `used`: heights where the evidence proves something; `parents`: where it does
    so in the state before. */
function checkHistory(evidence, used, parents) {
  const top = checkpointOf(evidence);
  const last = evidence.blocks.length - 1;
  let below = -1n;
  // A carrier is final too, and has the sealing block's height with another digest.
  const mayCarry = mayBeCarrier(top);
  demand(!mayCarry || evidence.blocks[last].parent !== null, "blocks[-1].parent",
    `block ${top.height - 1n}`, null, "It may be a carrier, which is no block of the chain.");
  evidence.blocks.forEach((block, number) => {
    const where = `blocks[${number}]`;
    const { header: { height } } = block;
    demand(height > below, `${where}.header.height`, `above ${below}`, height,
      "Blocks stand in the order of the chain, each once.");
    below = height;
    checkInHistory(evidence, block, where);
    checkParent(block, where);
    const meaning = "Nothing in this evidence stands in this block, or in the state before it.";
    const needed = used.has(height) || number === last;
    demand(needed, where, "a block that is needed", `block ${height}`, meaning);
    const before = block.parent === null || parents.has(height) || (number === last && mayCarry);
    demand(before, `${where}.parent`, "none", `block ${height - 1n}`, meaning);
  });
  const name = hex(headerDigest(top));
  if (last === 0) return `all stands in block ${top.height} itself, ${name}`;
  const first = evidence.blocks[0].header.height;
  return `${last} earlier block(s), from ${first} on, in the history of block ${top.height}, `
    + name;
}

function checkInHistory(evidence, block, where) {
  const { header, path } = block;
  const { height } = header;
  const top = checkpointOf(evidence);
  const ended = evidence.epochs;
  const count = BigInt(ended.length);
  const shown = header.epoch <= top.epoch && (header.epoch === top.epoch || header.epoch < count);
  demand(shown, `${where}.header.epoch`, `at most ${count}`, header.epoch,
    "No validators are shown who could have signed for it.");
  const epoch = Number(header.epoch);
  const first = epoch > 0 && epoch <= ended.length ? ended[epoch - 1].link.seal.height + 1n : 0n;
  const over = header.epoch === top.epoch ? top : ended[epoch].link.seal;
  demand(first <= height && height <= over.height, `${where}.header.height`,
    `${first} to ${over.height}, heights of epoch ${epoch}`, height, OTHER_HEIGHT);
  if (height === over.height) {
    same(where, headerDigest(over), headerDigest(header),
      "Two blocks of one height cannot both be in one history.");
    same(`${where}.path`, 0, path.length, "The block itself needs no path.");
    return;
  }
  included(`${where}.path`, historyLeaf(headerDigest(header)), height, path, over.height,
    over.history_root, `The final block ${over.height} does not have this block in its history.`);
}

/** Whether only the block below tells it from a carrier: it ends an epoch, and is empty. */
function mayBeCarrier(header) {
  return !alike(header.next_validator_set, header.validator_set)
    && header.instructions_count === 0n && header.outcomes_count === 0n;
}

function checkParent({ header, parent }, where) {
  if (parent === null) return;
  const meaning = "What is proven in it is no state that this block builds on.";
  same(`${where}.parent`, header.parent, headerDigest(parent), meaning);
  same(`${where}.parent.height`, header.height - 1n, parent.height, meaning);
}
