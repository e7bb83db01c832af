// Proofs about the ledger's state: what an account held after a block, and that no outcome of a
// period named a UETR. Why their blocks are final is shown as in a dossier.

const STATE_CHECKS = [
  ["chain", checkChain],
  ["validators", checkEpochs],
  ["seals", checkSeals],
  ["finality", checkFinality],
];

const STATE_NOTE = "none given. Shown: a quorum of each epoch's validators, from the genesis "
  + "file's on, signed this state. Not shown: that none of their keys was ever stolen nor, without "
  + "a replay, that execution was right";
const CYCLES_NOTE = "the outcome that settles a clearing cycle names none of its payments: one "
  + "that joined a cycle before these blocks may have settled in them";
const ACCOUNT_KINDS = ["settlement", "client reserve", "collateral", "margin", "fund", "capital"];

async function verifyOf(report, proof, genesis, checkpoint, checks) {
  for (const [name, check] of [...STATE_CHECKS, ...checks]) {
    await report.run(name, () => check(proof, genesis));
  }
  // The outcome that settles a clearing cycle names none of its payments.
  if (proof.$ === "AbsenceProof" && proof.trees[0].record.after > 0n) {
    await report.add("NOTE", "cycles", CYCLES_NOTE);
  }
  if (checkpoint === null) await report.add("NOTE", "checkpoint", STATE_NOTE);
  else {
    const pin = () => checkPin(checkpoint, headersOf(proof), null, checkpointOf(proof));
    await report.run("pinned", pin);
  }
}

async function verifyBalance(report, proof, genesis, checkpoint) {
  const checks = [["history", checkBalanceHistory], ["balance", checkBalance]];
  await verifyOf(report, proof, genesis, checkpoint, checks);
}

function checkBalanceHistory(proof) {
  return checkHistory(proof, new Set([proof.blocks[0].header.height]), new Set());
}

/** What the account held after the first block. */
function checkBalance(proof, genesis) {
  const { participant, asset, account, row: { record, proof: path } } = proof;
  const { header } = proof.blocks[0];
  checkRow("row", ["account", participant, asset, account], record, path, header.state_root);
  const whose = `${ACCOUNT_KINDS[Number(account)]} account of ${partyText(participant, genesis)}`;
  const when = `after block ${header.height} at ${timeText(header.timestamp)}`;
  if (record === null) return `the ${asset} ${whose} did not exist ${when}`;
  const [balance, reserved, line] = [record.balance, record.reserved, record.line].map((each) => (
    amountText(each, asset, genesis)));
  return `the ${whose} held ${balance} ${when}, ${reserved} of it set aside; credit line ${line}`;
}

async function verifyAbsence(report, proof, genesis, checkpoint) {
  const checks = [["history", checkAbsenceHistory], ["absence", checkAbsence]];
  await verifyOf(report, proof, genesis, checkpoint, checks);
}

function checkAbsenceHistory(proof) {
  same("blocks", 1, proof.blocks.length, "The trees stand in the checkpoint's state alone.");
  return checkHistory(proof, new Set(), new Set());
}

/** That no outcome named the UETR in the blocks of consecutive trees. */
function checkAbsence(proof) {
  const { uetr, trees } = proof;
  const root = checkpointOf(proof).state_root;
  trees.forEach(({ number, record, proof: path, pages }, i) => {
    const where = `trees[${i}]`;
    const before = trees[i - 1];
    if (before !== undefined) {
      const gap = "Between two trees there would be blocks of which nothing is shown.";
      same(`${where}.number`, before.number + 1n, number, gap);
      same(`${where}.record.after`, before.record.through, record.after, gap);
    }
    checkRow(`${where}.record`, ["uetr-tree", number], record, path, root);
    checkPages(where, record, uetr, pages);
  });
  const [first, last] = [trees[0].record, trees[trees.length - 1].record];
  return `no outcome of the blocks ${first.after + 1n} to ${last.through}, after `
    + `${timeText(first.after_time)} up to ${timeText(last.through_time)}, names UETR `
    + `${uetrText(uetr)}`;
}

function checkPages(where, record, uetr, pages) {
  try {
    verifyUetrAbsent(record.root, record.count, uetr, pages);
  } catch (error) {
    if (!(error instanceof ProofError)) throw error;
    throw new Fault(`${where}.pages`, `pages of ${record.count} UETRs that span its place`,
      error.message, "That the UETR was not used is not shown.");
  }
}
