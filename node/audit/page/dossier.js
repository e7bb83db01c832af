// A dossier: all its checks in order, the receipt, an earlier block, what every reader has to know
// besides. The room of node/audit/verify.py and verify_known.py.

/** In the order, and under the names, of CHECKS in node/audit/verify.py. */
const DOSSIER_CHECKS = [
  ["chain", checkDossierChain],
  ["validators", checkEpochs],
  ["seals", checkSeals],
  ["finality", checkFinality],
  ["history", checkDossierHistory],
  ["signatures", checkDossierSignatures],
  ["authority", checkAuthority],
  ["payment", checkPayment],
  ["instruction", checkInstruction],
  ["outcome", checkOutcome],
  ["link", checkLink],
  ["changes", checkChanges],
  ["record", checkRecord],
  ["together", checkTogether],
  ["balances", checkBalances],
  ["related", checkRelated],
  ["receipt", checkReceipt],
  ["pinned", checkPinned],
];

const NO_CHECKPOINT = "none given. Shown: a quorum of each epoch's validators, from the genesis "
  + "file's on, signed this history and this inclusion. Not shown: that none of their keys was "
  + "ever stolen, that this is the latest state of the payment, nor, without a replay, that "
  + "execution was right";

async function verifyDossier(report, dossier, genesis, checkpoint) {
  for (const [name, check] of DOSSIER_CHECKS) {
    await report.run(name, () => check(dossier, genesis, checkpoint));
  }
  let notes;
  try {
    notes = notesOn(dossier, genesis, checkpoint);
  } catch (error) {
    if (error instanceof Fault || error instanceof Missing) return; // a check above has said so
    throw error;
  }
  for (const [name, text] of notes) await report.add("NOTE", name, text);
  if (report.verdict === VALID) report.status = provenStatus(dossier);
}

/** How the payment stood at the checkpoint. A clearing cycle decides its payments without an
    outcome of their own. */
function provenStatus(dossier) {
  const { together } = dossier;
  if (together?.$ === "Netted") {
    return { settled: "settled", unwound: "rejected" }[together.record.status] ?? "accepted";
  }
  return stepWord(dossier.steps[dossier.steps.length - 1]);
}

function checkDossierChain(dossier, genesis) {
  const said = checkChain(dossier, genesis);
  checkEnvelopes(dossier, genesis);
  return said;
}

function checkDossierHistory(dossier) {
  const [used, parents] = usedHeights(dossier);
  return checkHistory(dossier, used, parents);
}

/** Signatures that are checked whether or not a final block holds what they sign. */
const MAX_UNCOMMITTED = 2048;

async function checkDossierSignatures(dossier, genesis) {
  const count = actsOf(dossier).reduce((sum, { act }) => sum + act.signed.signatures.length, 0);
  if (count > MAX_UNCOMMITTED) await checkCommitted(dossier, genesis);
  return checkSignatures(dossier, genesis);
}

/** That final blocks hold the instructions, each of which is there once. Throws Missing. */
async function checkCommitted(dossier, genesis) {
  const where = actsOf(dossier).map(({ act, height }) => `${height} ${act.place.index}`);
  try {
    await checkEpochs(dossier, genesis);
    checkSeals(dossier);
    await checkFinality(dossier, genesis);
    checkDossierHistory(dossier);
    checkInstruction(dossier);
    same("instructions", where.length, new Set(where).size, "One is there twice.");
  } catch (error) {
    if (!(error instanceof Fault || error instanceof Missing)) throw error;
    throw new Missing(`more than ${MAX_UNCOMMITTED} signatures are looked at only where final `
      + "blocks hold what they sign, which is not shown");
  }
}

/** Heights of the blocks in which the dossier proves something, and of those where it proves
    something in the state before. */
function usedHeights(dossier) {
  const used = new Set(dossier.steps.map((step) => step.outcome.height));
  const parents = new Set();
  for (const { act, height } of actsOf(dossier)) {
    used.add(height);
    if (act.authority !== null) parents.add(height);
  }
  for (const { outcome } of dossier.related) used.add(outcome.height);
  for (const name of ["summary", "closed", "decided"]) {
    const placed = dossier.together?.[name];
    if (placed) used.add(placed.outcome.height);
  }
  const moved = movedAt(dossier);
  if (moved !== null && (dossier.debtor !== null || dossier.creditor !== null)) {
    used.add(moved);
    parents.add(moved);
  }
  return [used, parents];
}

/** Non-repudiation of submission: what the accepting node stated. */
async function checkReceipt(dossier, genesis) {
  const { receipt } = dossier;
  if (receipt === null) throw new Absent("none of an accepting node is here; inclusion needs none");
  const { act } = dossier.steps[0];
  const { body, signature } = receipt;
  demand(act !== null, "receipt", "an instruction that it is for", null, "It is for nothing here.");
  same("receipt.instruction", envelopeDigest(act.signed.envelope), body.instruction,
    "The receipt is for another instruction.");
  const node = membersOf(dossier, genesis).filter((each) => alike(each.node_key, body.node)).pop();
  demand(node !== undefined, "receipt.node",
    "the node key of a validator of an epoch up to the checkpoint's", body.node,
    "No validator set so far names this key, as that of a node that only observed: whose statement "
    + "it is, nothing here can tell.");
  const domain = "nostro.receipt/1";
  const signed = await verify(body.node, domain, genesis.chainId, body.raw, signature);
  demand(signed, "receipt.signature", `a signature of ${node.name}`, signature,
    "That node did not sign this receipt.");
  return `${node.name} stated to have it, not before block ${body.height} was final (by its clock `
    + `${timeText(body.time)})`;
}

/** That an earlier block is in this history, and that what the reader relies on is. */
function checkPinned(dossier, genesis, checkpoint) {
  const { pinned } = dossier;
  const top = checkpointOf(dossier);
  if (pinned !== null) {
    included("pinned.path", historyLeaf(pinned.digest), pinned.height, pinned.path, top.height,
      top.history_root, `Block ${top.height} does not have this block in its history.`);
  }
  if (checkpoint !== null) return checkPin(checkpoint, headersOf(dossier), pinned, top);
  if (pinned === null) throw new Absent("no earlier block is shown to be in this history");
  return `block ${pinned.height}, ${hex(pinned.digest)}, is in the history of block ${top.height}`;
}

/** [what about, what to know] beside the checks. Throws Fault, Missing where those fail, too. */
function notesOn(dossier, genesis, checkpoint) {
  const what = orderOf(dossier);
  const { sender } = firstAct(dossier).signed.envelope;
  const first = dossier.steps[0].outcome;
  const last = dossier.steps[dossier.steps.length - 1].outcome;
  const top = checkpointOf(dossier);
  const { together } = dossier;
  const duplicate = first.reason === DUPLICATE_REASON;
  const foreign = ![null, sender].includes(payerOf(what, genesis));
  const unused = first.status === REJECTED && isSilent(first) && !duplicate;
  // A clearing cycle decides a payment whose own outcome only says that it joined.
  const decided = together?.$ === "Netted" && together.decided !== null;
  return [
    [checkpoint === null, "checkpoint", NO_CHECKPOINT],
    [true, "delivery", deliveryText(dossier, genesis)],
    [first.original !== null, "retry", `this order repeated a payment sent before, and moved no `
      + `money itself; the outcome that stands is [${first.original?.instruction}, `
      + `${first.original?.payment}] in block ${first.original?.height}`],
    [foreign, "order", "not given by whose money it is: tells nothing of their own order under "
      + "this UETR"],
    [!foreign && unused, "again", "this order used up no UETR: given once more, it may have "
      + "settled since"],
    [genesis.devnet, "devnet", "everybody can have the keys of a devnet, and so make evidence "
      + "like this"],
    [OPEN_STATUSES.includes(last.status) && !decided, "undecided", "so it stood in block "
      + `${top.height}; what became of it later is not here`],
    [duplicate, "duplicate", "another payment stands under this UETR, which may have settled"],
    [together !== null, "choice", "that no other set could have settled instead takes an audit "
      + "of the whole chain"],
    [dossier.dispute !== null, "dispute", "a dispute moves no money and undoes nothing; the "
      + "payment stands as shown"],
  ].filter(([when]) => when).map(([, name, text]) => [name, text]);
}
