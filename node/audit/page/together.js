// With what the payment settled: by queue resolution, as a leg of a linked settlement, or in a
// clearing cycle. The room of node/audit/verify_together.py.

const MAX_SHARES = 100_000_000;
const UNBALANCED = "Positions that do not balance make or destroy money.";

/** What the payment's last outcome says that it settled, or waits, together with. */
function calledFor(dossier) {
  const { event } = dossier.steps[dossier.steps.length - 1].outcome;
  if (event?.$ === "Joined") return "Netted";
  if (event?.$ !== "Together") return null;
  return firstBody(dossier).$ === "Link" ? "Linked" : "Gridlocked";
}

/** That the payment is in the set that settled, and that the set comes out even. */
function checkTogether(dossier, genesis) {
  const expected = calledFor(dossier);
  const { together } = dossier;
  if (expected === null) {
    same("together", null, together === null ? null : together.$.toLowerCase(),
      "Its outcomes say of no other payment that it settled together with it.");
    throw new Absent("it depends on no other payment");
  }
  const name = expected.toLowerCase();
  if (together === null) {
    throw new Missing(`the set that it settles together with (${name}) is not in the dossier`);
  }
  const meaning = "Its last outcome says that it settled in another way.";
  same("together", name, together.$.toLowerCase(), meaning);
  const payment = orderOf(dossier);
  demand(isPayment(payment), "together", "a payment", payment.$, meaning);
  const check = { Gridlocked: checkGridlocked, Linked: checkLinked, Netted: checkNetted }[expected];
  return check(dossier, together, payment, genesis);
}

// --- queue resolution ---------------------------------------------------------------------------

function checkGridlocked(dossier, part, payment) {
  const last = dossier.steps[dossier.steps.length - 1];
  const { summary } = part;
  same("steps[-1].outcome.event.group", resolutionDigest(encode(payment.asset)),
    last.outcome.event.group, "It did not settle by resolution of its asset's queues.");
  checkPlaced(dossier, summary, "together.summary");
  const { event, height } = summary.outcome;
  const meaning = "It tells of another settlement than that of this payment.";
  same("together.summary.event", "Resolved", event?.$ ?? null, meaning);
  same("together.summary.asset", payment.asset, event.asset, meaning);
  same("together.summary.height", last.outcome.height, height, meaning);
  demand(summary.place.index > last.place.index, "together.summary.place.index",
    `above ${last.place.index}`, summary.place.index, meaning);
  const sides = sidesOf(event.positions, "together.summary.positions");
  checkOwn(payment, sides);
  const membersText = checkMembers(part, payment, event.payments, event.payments_root);
  checkSums(part.members, payment, sides);
  return `one of ${event.payments} payments of ${payment.asset} that settled at once between `
    + `${sides.size} accounts, whose positions sum to zero; ${membersText}`;
}

// --- linked settlement --------------------------------------------------------------------------

function checkLinked(dossier, part, payment, genesis) {
  const { sender, body } = firstAct(dossier).signed.envelope;
  const last = dossier.steps[dossier.steps.length - 1].outcome;
  const id = linkDigest(encode([body.legs, body.expires]));
  dossier.steps.forEach(({ outcome: { event } }, i) => {
    if (event?.$ !== "Together") return;
    same(`steps[${i}].outcome.event.group`, id, event.group,
      "The outcome is of another link than the one that was signed.");
  });
  const debtors = new Set(body.legs.map((leg) => leg.debtor));
  checkAgreements(part, body, sender, debtors);
  if (last.status !== SETTLED) {
    demand(part.closed === null, "together.closed", "none", "the end of a link",
      "The payment waits, so its link is not closed.");
    return `a leg of ${body.legs.length}; shown to have signed: ${part.agreements.length + 1} of `
      + `${debtors.size}`;
  }
  const others = [...debtors].filter((lei) => lei !== sender).sort(compare);
  const agreed = part.agreements.map((each) => each.act.signed.envelope.sender);
  same("together.agreements", others.join(", "), agreed.join(", "),
    "It settled without the agreement of each debtor.");
  if (part.closed === null) {
    throw new Missing("the outcome that closed its link is not in the dossier");
  }
  checkPlaced(dossier, part.closed, "together.closed");
  const meaning = "It tells of the end of another link.";
  const closing = { raw: encode(["link-closed/1", id, true]) };
  same("together.closed.event", closing, part.closed.outcome.event, meaning);
  same("together.closed.height", last.height, part.closed.outcome.height, meaning);
  return `all ${body.legs.length} legs settled at once; ${netText(body.legs, genesis)}`;
}

function checkAgreements(part, body, own, debtors) {
  let previous = "";
  part.agreements.forEach(({ act: { signed: { envelope } } }, i) => {
    const where = `together.agreements[${i}].act`;
    const meaning = "Its sender did not sign these legs.";
    same(`${where}.body`, "Link", envelope.body.$, meaning);
    same(`${where}.body`, body, envelope.body, meaning);
    const { sender } = envelope;
    const fits = debtors.has(sender) && sender !== own && compare(sender, previous) > 0;
    demand(fits, `${where}.sender`, "another debtor of the link, ascending by LEI", sender,
      "Each debtor agrees once; nobody else has to.");
    previous = sender;
  });
}

function netText(legs, genesis) {
  const nets = new Map();
  const add = (lei, asset, amount) => {
    const key = `${lei} ${asset}`;
    nets.set(key, { lei, asset, net: (nets.get(key)?.net ?? 0n) + amount });
  };
  for (const leg of legs) {
    add(leg.debtor, leg.asset, -leg.amount);
    add(leg.creditor, leg.asset, leg.amount);
  }
  const said = [...nets.values()].filter((each) => each.net !== 0n).map(({ lei, asset, net }) => (
    `${partyText(lei, genesis)} ${net > 0n ? "+" : ""}${amountText(net, asset, genesis)}`));
  return said.length ? `net ${said.join("; ")}` : "nobody's balance changed by it";
}

// --- clearing cycles ----------------------------------------------------------------------------

function checkNetted(dossier, part, payment) {
  const { cycle } = dossier.steps[dossier.steps.length - 1].outcome.event;
  const { record } = part;
  const name = `clearing cycle ${cycle} of ${payment.asset}`;
  const top = checkpointOf(dossier);
  held("together.record", top.state_root, ["cycle", payment.asset, cycle], record, part.proof,
    `${name} under ${hex(top.state_root)}`,
    "The checkpoint's state says something else of the cycle.");
  if (record.status === "open") {
    const alone = part.closed === null && part.decided === null && part.place === null
      && part.members.length === 0;
    demand(alone, "together", "the cycle's record alone", "more",
      "Nothing more is settled of a cycle that is open.");
    return `in ${name}, which is open: ${record.payments} payment(s) so far`;
  }
  if (part.closed === null) {
    throw new Missing(`the outcome that closed ${name} is not in the dossier`);
  }
  checkPlaced(dossier, part.closed, "together.closed");
  const closed = part.closed.outcome.event;
  checkClosed(record, closed, payment, cycle);
  const sides = sidesOf(closed.positions, "together.closed.positions");
  for (const [i, field] of ["debits", "credits"].entries()) {
    const total = [...sides.values()].reduce((sum, side) => sum + side.amounts[i], 0n);
    same(`together.closed.positions.${field}`, record.value, total,
      "The positions are not those of its payments.");
  }
  checkOwn(payment, sides);
  const membersText = checkMembers(part, payment, closed.payments, closed.payments_root);
  checkSums(part.members, payment, sides);
  const decision = checkDecided(dossier, part, closed);
  return `one of ${closed.payments} payments of ${name} between ${sides.size} participants, whose `
    + `positions sum to zero; ${decision}; ${membersText}`;
}

function checkClosed(record, closed, payment, cycle) {
  const meaning = "It tells of the close of another cycle.";
  const where = "together.closed";
  same(`${where}.event`, "CycleClosed", closed?.$ ?? null, meaning);
  same(`${where}.asset`, payment.asset, closed.asset, meaning);
  same(`${where}.cycle`, cycle, closed.cycle, meaning);
  same(`${where}.positions`, encode(record.positions), encode(closed.positions), meaning);
  same(`${where}.payments`, record.payments, closed.payments, meaning);
  const peaks = [...record.frontier];
  const root = peaks.length === 0 ? EMPTY_ROOT
    : peaks.reduceRight((node, peak) => nodeHash(peak, node));
  same(`${where}.payments_root`, root, closed.payments_root, meaning);
}

/** What became of the closed cycle, in words. */
function checkDecided(dossier, { record, decided }, closed) {
  if (!["settled", "unwound"].includes(record.status)) {
    demand(decided === null, "together.decided", "none", "a decision",
      "The cycle's record says that it is not decided.");
    return "not decided yet";
  }
  if (decided === null) {
    throw new Missing("the outcome that decided its clearing cycle is not in the dossier");
  }
  checkPlaced(dossier, decided, "together.decided");
  const { event, height } = decided.outcome;
  const meaning = "It is not the decision that the record tells of.";
  const kind = record.status === "settled" ? "CycleSettled" : "CycleUnwound";
  same("together.decided.event", kind, event?.$ ?? null, meaning);
  same("together.decided.height", record.decided, height, meaning);
  same("together.decided.asset", closed.asset, event.asset, meaning);
  same("together.decided.cycle", closed.cycle, event.cycle, meaning);
  if (kind === "CycleUnwound") return `unwound in block ${height}: none of them settled`;
  const short = event.shortfalls.length;
  const payers = new Set(event.survivors.map((each) => each.participant));
  event.shortfalls.forEach((each) => each.covers.forEach((one) => payers.add(one.participant)));
  if (short * payers.size ** 2 > MAX_SHARES) {
    throw new Missing("the waterfall has too many payers to be worked out here; audit the chain");
  }
  const fault = waterfallFault(closed, event);
  demand(fault === null, "together.decided.event", "the waterfall by the rules", fault,
    "The loss was not shared by the rules.");
  const said = short ? `; what ${short} of them lacked was paid by the rules` : "";
  return `settled in block ${height}${said}`;
}

// --- what all three have in common --------------------------------------------------------------

/** That the block of an outcome's height holds it. */
function checkPlaced(dossier, { outcome, place }, where) {
  const { header } = new Blocks(dossier).at(outcome.height, `${where}.outcome.height`);
  included(`${where}.place`, outcomeLeaf(outcome), place.index, place.path, header.outcomes_count,
    header.outcomes_root, "The block does not hold this outcome here.");
}

function accountName(lei, kind) {
  return `${lei} ${kind}`;
}

/** Positions by account, which ascend and sum to zero: [debits, credits]. */
function sidesOf(positions, where) {
  const listed = positions.map((each) => ({
    lei: each.participant, kind: each.account ?? 0n, amounts: [each.debits, each.credits] }));
  listed.forEach((each, i) => {
    if (i === 0) return;
    const before = listed[i - 1];
    const rank = compare(before.lei, each.lei) || compare(before.kind, each.kind);
    demand(rank < 0, where, "each account once, ascending", each.lei, UNBALANCED);
  });
  const total = listed.reduce((sum, { amounts }) => sum + amounts[1] - amounts[0], 0n);
  same(where, "a sum of 0", `a sum of ${total}`, UNBALANCED);
  return new Map(listed.map((each) => [accountName(each.lei, each.kind), each]));
}

/** [account, which side, LEI] of the debtor's and the creditor's account of a payment. */
function accountsOf(payment) {
  return [
    [accountName(payment.debtor, payment.debtor_account), 0, payment.debtor],
    [accountName(payment.creditor, payment.creditor_account), 1, payment.creditor],
  ];
}

/** That the payment fits into the positions of its own accounts. */
function checkOwn(payment, sides) {
  for (const [account, side, lei] of accountsOf(payment)) {
    const found = sides.get(account)?.amounts[side] ?? 0n;
    demand(found >= payment.amount, `together.positions of ${lei}`,
      `${["debits", "credits"][side]} of ${payment.amount}`, found,
      "The positions cannot have this payment in them.");
  }
}

/** That the payment is in the set of `count` payments with this root; how that is shown. */
function checkMembers({ place, members }, payment, count, root) {
  const own = paymentLeaf(payment);
  const meaning = "The set that settled does not have this payment here.";
  if (place !== null) {
    demand(members.length === 0, "together.members", "none", `${members.length} members`,
      "Its place in the set is shown already.");
    included("together.place", own, place.index, place.path, count, root, meaning);
    return `it is payment ${place.index} of the set`;
  }
  if (members.length === 0) {
    throw new Missing("its place among the payments that settled together is not shown");
  }
  same("together.members", count, BigInt(members.length),
    "The set has another number of payments.");
  const leaves = members.map((each) => (each instanceof Uint8Array ? each : paymentLeaf(each)));
  same("together.members", root, treeRoot(leaves), "These are not the payments of the set.");
  same("together.members", 1, leaves.filter((each) => alike(each, own)).length, meaning);
  const clear = members.filter((each) => !(each instanceof Uint8Array)).length;
  return `all members shown, ${clear} of them in clear`;
}

/** That the positions can have the members that are in clear in them, and have nothing else if all
    are. */
function checkSums(members, payment, sides) {
  const clear = members.filter((each) => !(each instanceof Uint8Array));
  if (clear.length === 0) return;
  const sums = new Map();
  clear.forEach((each, i) => {
    const meaning = "It cannot have settled together with this payment.";
    same(`together.members, clear ${i}.asset`, payment.asset, each.asset, meaning);
    same(`together.members, clear ${i}.mode`, payment.mode, each.mode, meaning);
    for (const [account, side, lei] of accountsOf(each)) {
      if (!sums.has(account)) sums.set(account, { lei, amounts: [0n, 0n] });
      sums.get(account).amounts[side] += each.amount;
    }
  });
  const all = clear.length === members.length;
  for (const account of new Set([...sums.keys(), ...sides.keys()])) {
    const found = sums.get(account)?.amounts ?? [0n, 0n];
    const stated = sides.get(account)?.amounts ?? [0n, 0n];
    const fits = found.every((sum, i) => (all ? sum === stated[i] : sum <= stated[i]));
    demand(fits, `together.positions of ${account}`, stated.join(" and "), found.join(" and "),
      "The positions are not those of the payments.");
  }
}
