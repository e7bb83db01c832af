// The waterfall of a net system, worked out again from the events of a cycle's settlement: what a
// short debtor lacks is paid by its own margin, its own fund share, the operators' capital, and the
// survivors, pro rata. The room of node/chain/waterfall.py.

const [MARGIN, FUND, CAPITAL, SURVIVOR] = [0n, 1n, 2n, 3n];

/** Why the events of a settled cycle contradict the rules; null if they do not. `closed` is known
    to ascend and to sum to zero. */
function waterfallFault(closed, settled) {
  const fault = shortfallsFault(closed, settled);
  if (fault !== null) return fault;
  const found = workOut(settled);
  if (found === null) return "the waterfall leaves something uncovered";
  const fits = alike(encode(found), encode(settled.shortfalls));
  return fits ? null : "the waterfall comes out otherwise";
}

function shortfallsFault(closed, { shortfalls, survivors }) {
  const nets = new Map(closed.positions.map((each) => [
    each.participant, each.credits - each.debits]));
  if (!ascends(shortfalls, (each) => each.participant)) return "shortfalls do not ascend by LEI";
  for (const { participant, owed, own } of shortfalls) {
    const owes = -(nets.get(participant) ?? 0n);
    if (owed !== owes || own >= owed) return `${participant} does not owe ${owed}, or is not short`;
  }
  const short = new Set(shortfalls.map((each) => each.participant));
  const sound = ascends(survivors, (each) => each.participant)
    && !survivors.some((each) => short.has(each.participant));
  if (!sound) return "survivors do not ascend by LEI, or one of them is short";
  return survivors.length > 0 && short.size === 0 ? "survivors where nobody was short" : null;
}

/** The shortfalls by the rules, as arrays; null if something is left uncovered. */
function workOut({ shortfalls, survivors }) {
  const capital = capitalOf(shortfalls);
  const smaller = (one, other) => (one < other ? one : other);
  const capacity = new Map(survivors.map((each) => [
    each.participant, smaller(each.contribution, each.held)]));
  const weights = new Map(survivors.map((each) => [each.participant, each.contribution]));
  const found = [];
  for (const { participant, owed, own, covers: stated } of shortfalls) {
    let lacks = owed - own;
    const covers = [];
    const ofOwn = (source) => stated.filter((each) => (
      each.participant === participant && each.source === source)).pop()?.available ?? 0n;
    const sources = [
      [MARGIN, participant, ofOwn(MARGIN)], [FUND, participant, ofOwn(FUND)],
      ...[...capital].map(([lei, has]) => [CAPITAL, lei, has])];
    for (const [source, payer, available] of sources) {
      const amount = smaller(lacks, available);
      if (amount <= 0n) continue;
      covers.push([source, payer, available, amount]);
      lacks -= amount;
      if (source === CAPITAL) capital.set(payer, capital.get(payer) - amount);
    }
    for (const [payer, amount] of shareOut(lacks, weights, capacity)) {
      covers.push([SURVIVOR, payer, capacity.get(payer), amount]);
      lacks -= amount;
      capacity.set(payer, capacity.get(payer) - amount);
    }
    if (lacks !== 0n) return null;
    found.push([participant, owed, own, covers]);
  }
  return found;
}

/** What operators' capital held before the first step, by LEI: as stated where first drawn on. */
function capitalOf(shortfalls) {
  const found = new Map();
  for (const { source, participant, available } of shortfalls.flatMap((each) => each.covers)) {
    if (source === CAPITAL && !found.has(participant)) found.set(participant, available);
  }
  return new Map([...found].sort(([one], [other]) => compare(one, other)));
}

/** `loss` pro rata to the weights, nobody above its capacity: [LEI, amount], ascending by LEI.
    Units that do not divide go to the largest remainders, among equal ones to the lower LEI. */
function shareOut(loss, weights, capacity) {
  const byLei = ([one], [other]) => compare(one, other);
  let able = [...weights].filter(([lei, weight]) => weight > 0n && capacity.get(lei) > 0n);
  able.sort(byLei);
  const shares = [];
  let whole = 0n;
  for (;;) {
    whole = able.reduce((sum, [, weight]) => sum + weight, 0n);
    const reaches = ([lei, weight]) => loss * weight >= capacity.get(lei) * whole;
    const full = able.filter(reaches);
    if (full.length === 0) break;
    able = able.filter((each) => !reaches(each));
    for (const [lei] of full) {
      shares.push([lei, capacity.get(lei)]);
      loss -= capacity.get(lei);
    }
  }
  const parts = able.map(([lei, weight]) => ({
    lei, amount: (loss * weight) / whole, rest: (loss * weight) % whole }));
  let units = loss - parts.reduce((sum, each) => sum + each.amount, 0n);
  const largest = [...parts].sort((one, other) => (
    -compare(one.rest, other.rest) || compare(one.lei, other.lei)));
  for (const part of largest) {
    if (units > 0n) {
      part.amount += 1n;
      units -= 1n;
    }
  }
  const all = shares.concat(parts.map((each) => [each.lei, each.amount]));
  return all.filter(([, amount]) => amount > 0n).sort(byLei);
}
