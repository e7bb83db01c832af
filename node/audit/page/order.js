// What was ordered, and by whom. The room of node/audit/verify_order.py.

const MOVEMENTS = ["Issue", "Redeem", "MoveOwn"];
const NO_PAYMENT = "the payment is not in the dossier";

/** Every signed instruction of the dossier, each once: where it is, and its block's height. */
function actsOf(dossier) {
  const found = [];
  dossier.steps.forEach(({ act, outcome }, i) => {
    if (act !== null) found.push({ where: `steps[${i}].act`, act, height: outcome.height });
  });
  if (dossier.together?.$ === "Linked") {
    dossier.together.agreements.forEach(({ act, height }, i) => {
      found.push({ where: `together.agreements[${i}].act`, act, height });
    });
  }
  dossier.related.forEach(({ act, outcome }, i) => {
    found.push({ where: `related[${i}].act`, act, height: outcome.height });
  });
  return found;
}

// --- every instruction: whose it is, and where it stands --------------------------------------

/** That every instruction was signed for this chain. */
function checkEnvelopes(dossier, genesis) {
  const meaning = "It was signed for another chain than the genesis file describes.";
  for (const { where, act } of actsOf(dossier)) {
    same(`${where}.chain_id`, genesis.chainId, act.signed.envelope.chain_id, meaning);
  }
}

/** That whoever is said to have signed did sign, each key once. */
async function checkSignatures(dossier, genesis) {
  const acts = actsOf(dossier);
  let keys = 0;
  for (const { where, act: { signed } } of acts) {
    await checkSigned(`${where}.signatures`, signed, genesis);
    keys += signed.signatures.length;
  }
  return `${acts.length} instruction(s), signed by ${keys} key(s) in all`;
}

async function checkSigned(where, { envelope, signatures }, genesis) {
  let previous = new Uint8Array(0);
  for (const { public_key: key, signature } of signatures) {
    demand(order(key, previous) > 0, where, "strictly ascending keys", key,
      "A key is counted twice or out of order.");
    previous = key;
    const domain = "nostro.instruction/1";
    const signed = await verify(key, domain, genesis.chainId, envelope.raw, signature);
    demand(signed, where, `a signature by ${hex(key)}`, signature,
      "The holder of this key did not sign this envelope.");
  }
}

/** That the keys were the sender's, as many as its policy asks for, when the block was made. */
function checkAuthority(dossier) {
  const blocks = new Blocks(dossier);
  const senders = new Map();
  let missing = null;
  for (const { where, act, height } of actsOf(dossier)) {
    if (act.authority === null) {
      missing ??= where;
      continue;
    }
    const { parent } = blocks.at(height, where);
    demand(parent !== null, `${where}.authority`,
      "the block below, in whose state the keys stood", null,
      "Keys are proven in the state that their block builds on.");
    checkSender(where, act, height, parent);
    const { sender } = act.authority;
    senders.set(sender.lei, `${sender.name} (${sender.lei}, ${sender.bic})`);
  }
  if (missing !== null) {
    throw new Missing(`there is no proof of whose the keys were that signed ${missing}`);
  }
  const said = [...senders.values()].slice(0, 4).join(", ");
  return `valid keys of ${said} at the height of each block`;
}

function checkSender(where, { signed, authority }, height, parent) {
  const { sender, proof } = authority;
  const lei = signed.envelope.sender;
  held(`${where}.authority`, parent.state_root, ["participant", lei], sender, proof,
    `the record of ${lei} under the parent's state_root`,
    "The ledger did not hold this record for the sender.");
  same(`${where}.authority.lei`, lei, sender.lei, "It is another's record.");
  const keys = new Map(sender.keys.map((each) => [hex(each.public_key), each]));
  for (const { public_key: key } of signed.signatures) {
    const found = keys.get(hex(key));
    const valid = found !== undefined && found.valid_from <= height
      && (found.revoked_from === null || height < found.revoked_from);
    demand(valid, `${where}.signatures`, `a key of ${sender.name} valid at height ${height}`, key,
      "The signer had no authority for this sender at that height.");
  }
  const enough = BigInt(signed.signatures.length) >= sender.threshold;
  demand(enough, `${where}.signatures`, `at least ${sender.threshold} keys`,
    signed.signatures.length, "The sender's policy asks for more signatures.");
}

/** That the blocks hold the instructions, and that no change lacks its own or has another's. */
function checkInstruction(dossier) {
  const blocks = new Blocks(dossier);
  for (const { where, act, height } of actsOf(dossier)) {
    const { header } = blocks.at(height, where);
    included(`${where}.place`, signedLeaf(act.signed), act.place.index, act.place.path,
      header.instructions_count, header.instructions_root,
      "The block does not hold this signed instruction here.");
  }
  dossier.steps.forEach((step, i) => checkGiven(`steps[${i}].act`, dossier.steps[i - 1], step));
  const act = firstAct(dossier);
  return `${act.signed.envelope.id} is instruction ${act.place.index} of block `
    + `${dossier.steps[0].outcome.height}`;
}

/** That the step has its instruction exactly if it names one that the step before has not. */
function checkGiven(where, before, { outcome, act }) {
  const own = outcome.instruction !== null
    && (before === undefined || !sharesAct(before.outcome, outcome));
  if (!own) {
    demand(act === null, where, "none", "an instruction",
      "No instruction of its own brought this change about.");
    return;
  }
  same(where, `instruction ${outcome.instruction}`,
    act === null ? "none" : `instruction ${act.place.index}`,
    "It was brought about by an instruction that is not shown.");
}

/** Whether one instruction brought both outcomes about. */
function sharesAct(one, other) {
  return one.height === other.height && one.instruction === other.instruction;
}

// --- what was ordered ---------------------------------------------------------------------------

/** The instruction that ordered the payment. */
function firstAct(dossier) {
  const { act } = dossier.steps[0];
  demand(act !== null, "steps[0].act", "the instruction", null,
    "A payment begins with the instruction that orders it.");
  return act;
}

function firstBody(dossier) {
  return firstAct(dossier).signed.envelope.body;
}

/** What the first instruction ordered under this UETR. Throws Fault, Missing. */
function orderOf(dossier) {
  const body = firstBody(dossier);
  const number = dossier.steps[0].outcome.payment;
  if (body.$ === "Pay") {
    if (dossier.payment === null) throw new Missing(NO_PAYMENT);
    return dossier.payment.payment;
  }
  if (MOVEMENTS.includes(body.$)) return body;
  if (["Reserve", "Return"].includes(body.$) && number === 0n) return body.payment;
  if (body.$ === "Link" && number < BigInt(body.legs.length)) return body.legs[Number(number)];
  throw new Fault("steps[0].act.body", "an order about money", `payment ${number} of a ${body.$}`,
    "It orders no such payment.");
}

function isPayment(ordered) {
  return ordered.$ === "Payment";
}

/** By what later outcomes name the payment; null: what is no payment never changes. */
function contentOf(ordered) {
  return isPayment(ordered) ? paymentLeaf(ordered) : null;
}

/** Whose order it takes; null: the sender's own, or nothing here tells. */
function payerOf(ordered, genesis) {
  if (isPayment(ordered)) return ordered.debtor;
  if (ordered.$ === "MoveOwn") return null;
  return genesis.assets.get(ordered.asset)?.issuer ?? null;
}

/** That the payment is one that the sender signed, and its own to order. */
function checkPayment(dossier, genesis) {
  const body = firstBody(dossier);
  const part = dossier.payment;
  let ordered = body.$.toLowerCase();
  if (body.$ === "Pay") {
    if (part === null) throw new Missing(NO_PAYMENT);
    const { payment, place } = part;
    included("payment.place", paymentLeaf(payment), place.index, place.path, body.payments_count,
      body.payments_root, "This payment is not one that the sender signed.");
    ordered = `payment ${place.index} of ${body.payments_count}`;
  } else {
    demand(part === null, "payment", "none", "a payment",
      "This instruction orders no payment of a list.");
  }
  const what = orderOf(dossier);
  demand(isUuid4(what.uetr), "payment.uetr", "a UUID of version 4", what.uetr, "It is no UETR.");
  const { sender } = firstAct(dossier).signed.envelope;
  if (dossier.steps[0].outcome.status !== REJECTED) {
    same("steps[0].act.sender", payerOf(what, genesis) ?? sender, sender,
      "It was accepted without the order of whose money it is.");
  }
  const amount = amountText(what.amount, what.asset, genesis);
  return `${ordered}: ${amount} ${partiesText(what, genesis)}, UETR ${uetrText(what.uetr)}`;
}

function partiesText(what, genesis) {
  if (isPayment(what)) {
    return `from ${partyText(what.debtor, genesis)} to ${partyText(what.creditor, genesis)}`;
  }
  return what.$ === "Issue" ? `to ${partyText(what.creditor, genesis)}` : "of the sender's own";
}
