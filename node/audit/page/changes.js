// What became of the payment, up to the checkpoint. The room of node/audit/verify_changes.py.

/** Reasons of rejections that leave the UETR to whom it belongs. */
const USES_UP_NOTHING = [DUPLICATE_REASON, "AG08", "DS0G", "DS0H"];
const OF_ANOTHER = "The outcome belongs to another payment.";

function stepWord({ outcome }) {
  return statusWord(outcome.status, outcome.reason);
}

/** That the blocks hold these outcomes, in this order. */
function checkOutcome(dossier) {
  const blocks = new Blocks(dossier);
  dossier.steps.forEach((step, i) => {
    const where = `steps[${i}]`;
    const { outcome, place } = step;
    const { header } = blocks.at(outcome.height, `${where}.outcome.height`);
    included(`${where}.place`, outcomeLeaf(outcome), place.index, place.path,
      header.outcomes_count, header.outcomes_root, "The block does not hold this outcome here.");
    same(`${where}.outcome.time`, header.timestamp, outcome.time, "It is of another block.");
    const before = dossier.steps[i - 1];
    const above = before === undefined || before.outcome.height < outcome.height
      || (before.outcome.height === outcome.height && before.place.index < place.index);
    demand(above, `${where}.place`, "above that of the step before", place.index,
      "Outcomes stand in the order in which they came about, each once.");
    const isKnown = Object.hasOwn(STATUS_WORDS, outcome.status);
    demand(isKnown, `${where}.outcome.status`, Object.keys(STATUS_WORDS).join(" or "),
      outcome.status, "It is no known status.");
  });
  return outcomeText(dossier);
}

function outcomeText(dossier) {
  const last = dossier.steps[dossier.steps.length - 1];
  const { status, reason, height, time } = last.outcome;
  const earlier = dossier.steps.slice(0, -1).slice(-5).map(stepWord);
  let said = earlier.length ? `${earlier.join(", ")}, then ` : "";
  said += `${stepWord(last)} (${status}${reason === null ? "" : `, reason ${reason}`})`;
  for (const party of ["debtor", "creditor"]) {
    const balance = last.outcome[`${party}_balance`];
    if (balance !== null) said += `, ${party}'s balance then ${balance} minor units`;
  }
  return `${said}, in block ${height} at ${timeText(time)}`;
}

/** What later outcomes, and the payment's record, call it by: the place of the first one. */
function placeOf(dossier) {
  const first = dossier.steps[0].outcome;
  return { raw: encode([first.height, firstAct(dossier).place.index, first.payment]) };
}

/** That the outcomes are this payment's and not another one's of the same blocks. */
function checkLink(dossier) {
  const what = orderOf(dossier);
  const first = dossier.steps[0].outcome;
  const act = firstAct(dossier);
  let number = dossier.payment === null ? 0n : dossier.payment.place.index;
  if (act.signed.envelope.body.$ === "Link") number = first.payment;
  same("steps[0].outcome.payment", number, first.payment, OF_ANOTHER);
  same("steps[0].outcome.instruction", act.place.index, first.instruction, OF_ANOTHER);
  same("steps[0].outcome.uetr", what.uetr, first.uetr, OF_ANOTHER);
  same("steps[0].outcome.content", null, first.content, "It is a later one, not the first.");
  const place = placeOf(dossier);
  const content = contentOf(what);
  dossier.steps.slice(1).forEach(({ outcome }, i) => {
    const where = `steps[${i + 1}].outcome`;
    same(`${where}.uetr`, what.uetr, outcome.uetr, OF_ANOTHER);
    same(`${where}.original`, place, outcome.original, OF_ANOTHER);
    same(`${where}.payment`, number, outcome.payment, OF_ANOTHER);
    const own = content !== null && alike(content, outcome.content);
    demand(own, `${where}.content`, content, outcome.content, OF_ANOTHER);
  });
  return `${dossier.steps.length} outcome(s) of [${act.place.index}, ${number}] under this UETR`;
}

// --- one from the other -------------------------------------------------------------------------

/** That each outcome can follow from the one before, and from the order that it names. */
function checkChanges(dossier, genesis) {
  const what = orderOf(dossier);
  let act = firstAct(dossier);
  checkEvent("steps[0].outcome", dossier, what, 0);
  let ordered = 0;
  dossier.steps.forEach((step, i) => {
    if (i === 0) return;
    const where = `steps[${i}]`;
    const before = dossier.steps[i - 1].outcome;
    const open = OPEN_STATUSES.includes(before.status) && !isSilent(dossier.steps[0].outcome);
    demand(open, `steps[${i - 1}].outcome.status`, OPEN_STATUSES.join(" or "), before.status,
      "Nothing changes a payment that is decided.");
    checkEvent(`${where}.outcome`, dossier, what, i);
    if (step.outcome.instruction === null) {
      checkByItself(where, step);
      return;
    }
    if (step.act !== null) act = step.act;
    ordered += 1;
    checkApt(where, dossier, what, act.signed.envelope);
    checkResult(where, act.signed.envelope.body.$, step.outcome.status);
  });
  const count = dossier.steps.length - 1;
  if (count === 0) return "its first outcome is its only one";
  const { event } = dossier.steps[count].outcome;
  const posted = event?.$ === "Posted"
    ? `; ${amountText(event.amount, what.asset, genesis)} settled` : "";
  return `${count} change(s), ${ordered} of them by an order that is shown${posted}`;
}

/** The block itself settles what waits, or lets it expire, and does nothing else to it. */
function checkByItself(where, step) {
  const { status, reason } = step.outcome;
  const fits = (status === SETTLED && reason === null)
    || (status === CANCELLED && reason === EXPIRED_REASON);
  demand(fits, `${where}.outcome.status`, "settled or expired", stepWord(step),
    "Without an order a payment only settles or expires.");
}

/** That this order could be about this payment, and came from who may give it. */
function checkApt(where, dossier, what, { sender, body }) {
  demand(isPayment(what), `${where}.outcome`, "none", "a change", "Only a payment changes.");
  demand(isApt(firstBody(dossier), what, sender, body), `${where}.act.body`,
    "an order that is about this payment, by who may give it", `${body.$} by ${sender}`,
    "This instruction cannot have brought the change about.");
}

function isApt(ordered, what, sender, body) {
  // Payments that settle all or none wait as one entry: an order about any is about all.
  const grouped = ordered.$ === "Pay" && ordered.all_or_none;
  const concerns = (lei) => grouped || lei === what.debtor || lei === what.creditor;
  switch (body.$) {
    case "Cancel": case "Hold": case "Release": case "Reprioritise":
      return (grouped || alike(body.uetr, what.uetr)) && sender === what.debtor;
    case "Post": {
      if (ordered.$ !== "Reserve" || !alike(body.uetr, what.uetr)) return false;
      const shows = body.preimage !== null && ordered.hash_lock !== null
        && alike(sha256(body.preimage), ordered.hash_lock);
      return shows || sender === ordered.poster;
    }
    case "Void":
      return ordered.$ === "Reserve" && alike(body.uetr, what.uetr) && sender === what.creditor;
    case "Freeze":
      return concerns(body.participant);
    case "Propose":
      return body.changes.some((each) => (
        ["SuspendParticipant", "LiftSuspension"].includes(each.$) && concerns(each.lei)));
    case "Approve":
      return true; // of which proposal, its digest says; what that was, the whole chain
    default:
      return false;
  }
}

const RESULTS = { Cancel: [CANCELLED], Void: [CANCELLED], Hold: [HELD], Post: [POSTED] };

/** That the change is one that this kind of order makes. */
function checkResult(where, body, status) {
  const expected = Object.hasOwn(RESULTS, body) ? RESULTS[body] : [QUEUED, HELD];
  demand(expected.includes(status), `${where}.outcome.status`, expected.join(" or "), status,
    `A ${body} makes no such change.`);
}

/** That what the outcome tells besides its status fits what was ordered. */
function checkEvent(where, dossier, what, index) {
  const { outcome } = dossier.steps[index];
  const { event } = outcome;
  const fits = eventFits(outcome, firstBody(dossier), what, index === 0);
  const found = `${outcome.status} with ${event === null ? "nothing" : event.$}`;
  demand(fits, `${where}.event`, "what this payment's outcome tells", found,
    "It is not what becomes of such an order.");
}

function eventFits({ event, status, original }, body, what, isFirst) {
  if (event === null) {
    // A retry repeats the status alone.
    if (isFirst && original !== null) return true;
    return status !== POSTED && !(isFirst && status === ACCEPTED);
  }
  switch (event.$) {
    case "Joined":
      return isFirst && isPayment(what) && what.mode === 1n && status === ACCEPTED;
    case "Together":
      return isFirst ? body.$ === "Link" && status === ACCEPTED : status === SETTLED;
    case "Posted":
      return !isFirst && status === POSTED && event.amount > 0n && event.amount <= what.amount;
    case "Returns":
      return isFirst && body.$ === "Return" && alike(event.original, body.original.uetr)
        && status !== REJECTED;
    case "Carried":
      return isFirst && isPayment(what) && alike(event.previous, what.previous)
        && status !== REJECTED;
    default:
      return false;
  }
}

// --- all of them --------------------------------------------------------------------------------

/** That the checkpoint's state knows of no change that the dossier leaves out. */
function checkRecord(dossier, genesis) {
  const what = orderOf(dossier);
  const { row } = dossier;
  const first = dossier.steps[0].outcome;
  const last = dossier.steps[dossier.steps.length - 1].outcome;
  const top = checkpointOf(dossier);
  if (isSilent(first)) {
    demand(row === null, "row", "none", "a row",
      "The state says nothing of an order that did not use up its UETR.");
    if (OPEN_STATUSES.includes(first.status)) {
      throw new Missing("this repeats how the payment stood then, not what became of it later");
    }
    return "this outcome used up no UETR: the state has nothing to say of it";
  }
  if (row === null) throw new Missing("there is no proof of what became of the payment later");
  const { record } = row;
  held("row", top.state_root, ["payment", what.uetr], record, row.proof,
    `what the checkpoint's state has of this UETR, under ${hex(top.state_root)}`,
    "The checkpoint's state says something else of this payment.");
  const decided = !OPEN_STATUSES.includes(last.status) || last.event?.$ === "Joined";
  const since = usedAnew(dossier);
  if (since !== null) {
    const anew = `the UETR was used anew in block ${since}`;
    if (!decided) {
      throw new Missing(`${anew}: what became of this payment in between, the state does not tell `
        + "any more");
    }
    return `nothing changes what is decided; ${anew}: whether all changes before are shown, and `
      + "whether it was given back, the state does not tell any more";
  }
  if (record === null || record.first.height < first.height) {
    const later = dossier.steps.filter((step) => step.outcome.height > first.height);
    same("steps", 0, later.length, "The state knows of no change in a later block.");
    demand(decided, "row.record", "a record", null,
      "A payment that waits has a record: a later outcome is left out.");
    return `up to block ${top.height} nothing changed after its first block`;
  }
  checkComplete(dossier, what, record);
  let said = `up to block ${top.height} ${record.changes} change(s) after its first block, `
    + "all shown";
  for (const [amount, words] of [
    [record.returned, "given back"], [record.returning, "being returned"]]) {
    if (amount > 0n) said += `; ${amountText(amount, what.asset, genesis)} ${words}`;
  }
  return record.recall === null ? said : `${said}; recall ${record.recall}`;
}

/** From which height on the UETR is another payment's; null: the record says nothing of one. */
function usedAnew({ row, steps }) {
  const height = row?.record?.first.height ?? -1n;
  return height > steps[0].outcome.height ? height : null;
}

/** Whether the outcome left no trace in the state: a retry, or a rejection that used up no UETR. */
function isSilent(first) {
  return first.original !== null
    || (first.status === REJECTED && USES_UP_NOTHING.includes(first.reason));
}

/** That the steps are those that the record counts and chains. */
function checkComplete(dossier, what, record) {
  const first = dossier.steps[0].outcome;
  const last = dossier.steps[dossier.steps.length - 1].outcome;
  const another = "The record is another payment's.";
  same("row.record.first", placeOf(dossier), record.first, another);
  same("row.record.uetr", what.uetr, record.uetr, another);
  same("row.record.content", contentOf(what), record.content, another);
  let [changes, chain] = [0n, ZEROS];
  for (const { outcome } of dossier.steps) {
    if (outcome.height <= first.height) continue;
    changes += 1n;
    chain = sha256(joined(chain, outcomeLeaf(outcome)));
  }
  const meaning = "A change is left out, or one is shown that there never was.";
  same("row.record.changes", record.changes, changes, meaning);
  same("row.record.chain", record.chain, chain, meaning);
  same("row.record.status", record.status, last.status, meaning);
}
