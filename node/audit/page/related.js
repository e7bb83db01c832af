// What was said about the payment afterwards: recalls, returns, disputes, and the creditor's
// acknowledgement. The room of node/audit/verify_related.py.

const RELATED_WORDS = {
  Recall: "recall", RefuseRecall: "refusal of a recall", Return: "return", OpenDispute: "dispute",
  SubmitEvidence: "document on record", DecideDispute: "verdict", Acknowledge: "acknowledgement",
};
const DISPUTE_BODIES = ["OpenDispute", "SubmitEvidence", "DecideDispute"];

/** That what is said to be about the payment is, was accepted, and agrees with its dispute. */
function checkRelated(dossier, genesis) {
  const blocks = new Blocks(dossier);
  const first = dossier.steps[0].outcome.height;
  const said = dossier.related.map((related, i) => {
    const where = `related[${i}]`;
    const { outcome, place, act } = related;
    const before = dossier.related[i - 1];
    const above = before === undefined || before.outcome.height < outcome.height
      || (before.outcome.height === outcome.height && before.act.place.index < act.place.index);
    demand(above, where, "above the one before it", act.place.index,
      "They stand in the order of the chain, each once.");
    demand(outcome.height >= first, `${where}.outcome.height`, `at least ${first}`, outcome.height,
      "It is about a payment that the UETR named before.");
    const { header } = blocks.at(outcome.height, `${where}.outcome.height`);
    included(`${where}.place`, outcomeLeaf(outcome), place.index, place.path,
      header.outcomes_count, header.outcomes_root, "The block does not hold this outcome here.");
    checkAccepted(where, related);
    return checkAbout(dossier, where, related, genesis);
  });
  said.push(...checkDispute(dossier, genesis));
  const anew = usedAnew(dossier);
  const late = anew === null ? -1 : dossier.related.findIndex((each) => each.outcome.height >= anew);
  if (late >= 0) {
    throw new Missing(`related[${late}] may be about the payment that took the UETR in block `
      + `${anew}`);
  }
  if (said.length === 0) {
    throw new Absent("nothing is shown that was said about it; whether something was, is not "
      + "shown");
  }
  return said.slice(0, 8).join("; ");
}

/** That the outcome is the instruction's own, and no rejection. */
function checkAccepted(where, { act, outcome }) {
  const { body } = act.signed.envelope;
  const expected = {
    instruction: act.place.index, payment: 0n,
    uetr: body.$ === "Return" ? body.payment.uetr : null, original: null, content: null,
  };
  for (const [field, value] of Object.entries(expected)) {
    same(`${where}.outcome.${field}`, value, outcome[field],
      "The outcome belongs to another instruction.");
  }
  demand(outcome.status !== REJECTED, `${where}.outcome.status`, "an acceptance", outcome.status,
    "The ledger did not accept it.");
}

/** What was said, in words, if it is about this payment, by a party of it. */
function checkAbout(dossier, where, { act, outcome }, genesis) {
  const what = orderOf(dossier);
  const { body, sender } = act.signed.envelope;
  demand(isPayment(what), where, "nothing", body.$, "Only payments are spoken of later.");
  demand(Object.hasOwn(RELATED_WORDS, body.$), `${where}.act.body`, "something about it", body.$,
    "Such an instruction is about no payment of others.");
  const meaning = "It is about another payment.";
  if (["SubmitEvidence", "DecideDispute"].includes(body.$)) {
    same(`${where}.act.body.uetr`, what.uetr, body.uetr, meaning);
  } else {
    const named = body.$ === "Acknowledge" ? body.payment : body.original;
    same(`${where}.act.body`, paymentLeaf(what), paymentLeaf(named), meaning);
  }
  demand(mayHaveSaid(body.$, sender, what), `${where}.act.sender`, "whose it was to say", sender,
    "It was not this participant's to say.");
  const amount = body.$ === "Return"
    ? ` of ${amountText(body.payment.amount, body.payment.asset, genesis)} `
      + `(${stepWord({ outcome })} at first)` : "";
  return `${RELATED_WORDS[body.$]}${amount} by ${partyText(sender, genesis)} in block `
    + `${outcome.height}`;
}

function mayHaveSaid(body, sender, { debtor, creditor }) {
  switch (body) {
    case "Recall": return sender === debtor;
    case "RefuseRecall": case "Return": case "Acknowledge": return sender === creditor;
    case "DecideDispute": return sender !== debtor && sender !== creditor;
    default: return sender === debtor || sender === creditor;
  }
}

/** That the dispute's record is this payment's and agrees with what was said: its words. */
function checkDispute(dossier, genesis) {
  const said = dossier.related.filter(({ act }) => (
    DISPUTE_BODIES.includes(act.signed.envelope.body.$)));
  const row = dossier.dispute;
  if (row === null) {
    if (said.length === 0) return [];
    throw new Missing("it is disputed, and how the dispute stands is not in the dossier");
  }
  const what = orderOf(dossier);
  const { record } = row;
  const first = dossier.steps[0].outcome.height;
  checkRow("dispute", ["dispute", what.uetr], record, row.proof, checkpointOf(dossier).state_root);
  const another = "It is the dispute of another payment.";
  demand(isPayment(what), "dispute", "none", "a dispute", another);
  same("dispute.debtor", what.debtor, record.debtor, another);
  same("dispute.creditor", what.creditor, record.creditor, another);
  demand(record.opened >= first, "dispute.opened", `at or above ${first}`, record.opened, another);
  const filed = (lei, document) => `${lei} ${hex(document)}`;
  const evidence = new Set(record.evidence.map(([lei, document]) => filed(lei, document)));
  for (const { act: { signed: { envelope } }, outcome } of said) {
    const { sender, body: { document } } = envelope;
    const isFiled = document !== undefined && evidence.has(filed(sender, document));
    checkSaid(record, envelope, outcome.height, isFiled);
  }
  if (!said.some(({ act }) => act.signed.envelope.body.$ === "OpenDispute")) {
    // The state knows disputes by UETR alone, and may know that of a later payment under it.
    throw new Missing("which payment is disputed, only the opening of the dispute could show");
  }
  const verdict = record.verdict === null ? "undecided"
    : ["upheld", "dismissed"][Number(record.verdict)];
  return [`disputed by ${partyText(record.opened_by, genesis)} in block ${record.opened} (reason `
    + `${record.reason}): ${verdict}`];
}

function checkSaid(record, { body, sender }, height, isFiled) {
  const meaning = "The state tells of the dispute otherwise than what was said.";
  if (body.$ === "OpenDispute") {
    same("dispute.opened", record.opened, height, meaning);
    same("dispute.opened_by", record.opened_by, sender, meaning);
    same("dispute.reason", record.reason, body.reason, meaning);
  } else if (body.$ === "SubmitEvidence") {
    demand(isFiled, "dispute.evidence", body.document, "not there", meaning);
  } else same("dispute.verdict", record.verdict, body.verdict, meaning);
}

/** What the receiving institution acknowledged, in words. */
function deliveryText(dossier, genesis) {
  const outcomes = dossier.steps.map((step) => step.outcome);
  const { together } = dossier;
  if (together?.$ === "Netted" && together.decided !== null) {
    outcomes.push(together.decided.outcome);
  }
  const blocks = new Map(dossier.blocks.map(({ header }) => [header.height, header]));
  const name = (leaf, digest) => `${hex(leaf)} ${hex(digest)}`;
  const seen = new Map();
  for (const each of outcomes) {
    const header = blocks.get(each.height);
    if (header !== undefined) seen.set(name(outcomeLeaf(each), headerDigest(header)), each);
  }
  let others = 0;
  for (const { act, outcome } of [...dossier.related].reverse()) {
    const { body, sender } = act.signed.envelope;
    if (body.$ !== "Acknowledge") continue;
    const found = seen.get(name(body.outcome, body.block));
    if (found !== undefined) {
      const last = OPEN_STATUSES.includes(found.status) ? "latest" : "final";
      const which = found === outcomes[outcomes.length - 1] ? last : "an earlier";
      return `${partyText(sender, genesis)} acknowledged in block ${outcome.height} to have seen `
        + `its ${which} outcome, of block ${found.height}`;
    }
    others += 1;
  }
  return others > 0
    ? "what the receiving institution acknowledged is none of the outcomes shown here"
    : "no acknowledgement of the receiving institution; finality needs none";
}
