// Evidence that accuses: the proof of a fork, and of one validator's equivocation. The room of
// node/audit/accountability.py and verify_accountability.py.

const KEYS_NOTE = "what is proven is that keys signed contradicting votes: by their operators' "
  + "doing, by two copies of one node, or by whoever stole a key. Two copies and a restored backup "
  + "are the usual causes";
const OTHER_EPOCH = "The votes of one epoch's validators count in that epoch only.";

/** Whether no correct validator signs both statements. Notarize with nullify is no fault. */
function opposed(one, other) {
  if (one.epoch !== other.epoch || one.view !== other.view) return false;
  if (contentFault(one) !== null || contentFault(other) !== null) return false;
  if (one.kind === other.kind) return !alike(encode(one.content), encode(other.content));
  return [one, other].every(({ kind }) => kind === NULLIFY || kind === FINALIZE);
}

/** What a vote says, in words. */
function told({ kind, view, content }) {
  if (kind === NULLIFY || content === null) return `nullify in view ${view}`;
  const block = hex(content.block).slice(0, 16);
  return `${KINDS[Number(kind)].toLowerCase()} of ${block}… in view ${view}`;
}

async function checkVote(vote, set, genesis, where) {
  same(`${where}.epoch`, set.epoch, vote.epoch, OTHER_EPOCH);
  const count = set.validators.length;
  const signed = vote.voter < BigInt(count) && await verify(
    set.validators[Number(vote.voter)].vote_key, "nostro.vote/1", genesis.chainId,
    votePayload(vote), vote.signature,
  );
  demand(signed, `${where}.signature`, `one of validator ${vote.voter} of ${count}`,
    vote.signature, "Nobody can be held to this vote.");
}

/** The set that the last link names; the check "validators" says whether it is true. */
function declaredSet(proof, genesis) {
  const { epochs } = proof;
  return epochs.length === 0 ? genesis.validators : epochs[epochs.length - 1].validators;
}

function culpritOf(set, index, first, second) {
  const validator = set.validators[index];
  return {
    epoch: Number(set.epoch), validator: index, name: validator.name,
    operator: validator.operator, vote_key: hex(validator.vote_key), view: Number(first.view),
    fault: `${told(first)} and ${told(second)}`,
  };
}

// --- a fork -----------------------------------------------------------------------------------

const FORK_CHECKS = [
  ["chain", checkForkChain],
  ["validators", checkForkValidators],
  ["finalizations", checkForkFinalizations],
  ["conflict", checkForkConflict],
  ["certificates", checkForkCertificates],
  ["culprits", nameCulprits],
];

function branches(proof) {
  return [["lower", proof.lower], ["higher", proof.higher]];
}

function checkForkChain(proof, genesis) {
  const meaning = "This is evidence about another chain than the genesis file describes.";
  for (const [name, { block }] of branches(proof)) {
    same(`${name}.chain_id`, genesis.chainId, block.chain_id, meaning);
    known(`${name}.version`, block.version);
  }
  return `network ${genesis.network}, chain ${hex(genesis.chainId)}`;
}

async function checkForkValidators(proof, genesis) {
  const set = (await follow(genesis, proof.epochs)).pop();
  const meaning = "The block is of another epoch than the links lead to, so of other validators.";
  for (const [name, { block }] of branches(proof)) {
    same(`${name}.epoch`, set.epoch, block.epoch, meaning);
    same(`${name}.validator_set`, setDigest(set), block.validator_set, meaning);
  }
  return `the ${set.validators.length} validators of epoch ${set.epoch}`;
}

async function checkForkFinalizations(proof, genesis) {
  const set = declaredSet(proof, genesis);
  const said = [];
  for (const [name, { block, carriers, finalization }] of branches(proof)) {
    checkCarriers(block, carriers, set, `${name}.carriers`);
    const [parent, last] = endOf(block, carriers);
    await checkFinalization(finalization, last, parent, set, genesis, `${name}.finalization`);
    said.push(`block ${block.height} by ${finalization.signatures.length} in view ${last.view}`);
  }
  return `finalized are ${said.join(" and ")}, of ${set.validators.length} validators`;
}

function checkForkConflict(proof) {
  const [lower, higher] = [proof.lower.block, proof.higher.block];
  const [low, high] = [headerDigest(lower), headerDigest(higher)];
  const rises = lower.height < higher.height
    || (lower.height === higher.height && order(low, high) < 0);
  demand(rises, "higher.block", "another block, above the lower one", `block ${higher.height}`,
    "One block, or a chain in the wrong order, is no fork.");
  const { rival } = proof;
  if (lower.height === higher.height) {
    demand(rival === null, "rival", "none", "one", "Two blocks of one height need no path.");
    if (alike(lower.history_root, higher.history_root)) {
      // A carrier has its sealing block's height and history, but not its parent.
      const meaning = "One may carry the other, and both be final without a fork.";
      same("higher.block.parent", lower.parent, higher.parent, meaning);
    }
    return `two final blocks of height ${lower.height}`;
  }
  const below = `the block that block ${higher.height} has below it at ${lower.height}`;
  demand(rival !== null, "rival", below, "none",
    "The lower block may be in the history of the higher one.");
  demand(!alike(rival.digest, low), "rival.digest", "another block", rival.digest,
    "One chain is no fork.");
  included("rival.path", historyLeaf(rival.digest), lower.height, rival.path, higher.height,
    higher.history_root, "The higher block does not have this one in its history.");
  return `block ${lower.height} is final, and so is block ${higher.height}, which has another one `
    + `at height ${lower.height}`;
}

function pileOf(proof) {
  return [proof.lower.finalization, proof.higher.finalization, ...proof.certificates];
}

async function checkForkCertificates(proof, genesis) {
  const set = declaredSet(proof, genesis);
  const { certificates } = proof;
  for (const [number, each] of certificates.entries()) {
    same(`certificates[${number}].epoch`, set.epoch, each.epoch, OTHER_EPOCH);
    await checkCertificate(each, set, genesis, `certificates[${number}]`);
  }
  certificates.forEach((each, number) => {
    if (number === 0) return;
    const below = certificates[number - 1];
    const rank = compare(below.view, each.view) || compare(below.kind, each.kind)
      || order(below.raw, each.raw);
    demand(rank < 0, `certificates[${number}]`, "one that stands above the one before it",
      `view ${each.view}`, "A certificate stands twice or in the wrong place.");
  });
  const pile = pileOf(proof);
  certificates.forEach((each, number) => {
    const accuses = pile.some((other) => opposed(each, other));
    demand(accuses, `certificates[${number}]`, "one that contradicts another",
      `that of view ${each.view}`, "It accuses nobody and does not belong here.");
  });
  return `${certificates.length} besides the finalizations, each contradicting another`;
}

/** Voter → the first two of its votes that contradict each other, by view and kind. */
function culpritsOf(pile) {
  const votes = pile.flatMap((each) => {
    const said = joined(Uint8Array.of(Number(each.kind)), encode(each.content));
    return each.signatures.map(([voter]) => ({ ...each, voter, said }));
  });
  votes.sort((one, other) => compare(one.voter, other.voter) || compare(one.view, other.view)
    || order(one.said, other.said));
  const views = new Map();
  const found = new Map();
  for (const vote of votes) {
    const place = `${vote.voter} ${vote.view}`;
    if (!views.has(place)) views.set(place, new Map());
    const said = views.get(place);
    const first = [...said.values()].find((each) => opposed(each, vote));
    if (first !== undefined && !found.has(vote.voter)) found.set(vote.voter, [first, vote]);
    if (!said.has(hex(vote.said))) said.set(hex(vote.said), vote);
  }
  return found;
}

/** Needs sound certificates: whether they are is for the other checks to say. */
async function nameCulprits(proof, genesis, report) {
  const set = declaredSet(proof, genesis);
  const pile = pileOf(proof);
  for (const each of pile) {
    const fits = each.epoch === set.epoch && (await certificateFault(each, set, genesis)) === null;
    if (!fits) throw new Missing("a certificate does not hold");
  }
  const found = culpritsOf(pile);
  const named = [...found].map(([voter, [first, second]]) => (
    culpritOf(set, Number(voter), first, second)));
  const least = Math.floor((set.validators.length - 1) / 3) + 1;
  const words = named.map((each) => `${each.name} (${each.operator}): ${each.fault}`).join("; ");
  if (named.length < least) {
    throw new Missing(`a fork has ${least} culprits or more, these certificates name `
      + `${named.length}. Lacking are those of the lower view: its nullification, or the `
      + `notarizations of both blocks${words ? `. Named: ${words}` : ""}`);
  }
  report.named = named;
  return `${named.length} of ${set.validators.length}, where ${least} must be: ${words}`;
}

// --- an equivocation --------------------------------------------------------------------------

const EQUIVOCATION_CHECKS = [
  ["validators", checkVotesEpoch],
  ["votes", checkVotes],
];

async function checkVotesEpoch(proof, genesis) {
  const set = (await follow(genesis, proof.epochs)).pop();
  const meaning = "The votes are of another epoch than the links lead to, so of other validators.";
  same("first.epoch", set.epoch, proof.equivocation.first.epoch, meaning);
  return `the ${set.validators.length} validators of epoch ${set.epoch}`;
}

async function checkVotes(proof, genesis, report) {
  const { first, second } = proof.equivocation;
  const set = declaredSet(proof, genesis);
  await checkVote(first, set, genesis, "equivocation.first");
  await checkVote(second, set, genesis, "equivocation.second");
  const both = first.voter === second.voter && opposed(first, second);
  demand(both, "equivocation.second",
    `a vote of validator ${first.voter} that contradicts its ${told(first)}`,
    `${told(second)} of validator ${second.voter}`, "A correct validator may have signed both.");
  const culprit = culpritOf(set, Number(first.voter), first, second);
  report.named = [culprit];
  return `${culprit.name} (${culprit.operator}) signed ${culprit.fault}`;
}
