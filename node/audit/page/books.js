// What the payment did to the books: both accounts before and after the block in which its money
// moved. The room of node/audit/verify_books.py.

/** Height of the block in which the payment's money moved; null: none did. */
function movedAt(dossier) {
  const last = dossier.steps[dossier.steps.length - 1].outcome;
  const { together } = dossier;
  if (together?.$ === "Netted" && together.decided !== null) {
    const { event, height } = together.decided.outcome;
    return event?.$ === "CycleSettled" ? height : null;
  }
  const repeats = isSilent(dossier.steps[0].outcome);
  return MOVED_STATUSES.includes(last.status) && !repeats ? last.height : null;
}

/** What the accounts held before and after the block in which the money moved. */
function checkBalances(dossier, genesis) {
  const height = movedAt(dossier);
  const what = orderOf(dossier);
  const sides = [["debtor", -1n], ["creditor", 1n]];
  if (height === null) {
    for (const [name] of sides) {
      demand(dossier[name] === null, name, "none", "a balance",
        "No money moved: no balance says anything of this payment.");
    }
    throw new Absent("no money moved");
  }
  const block = new Blocks(dossier).at(height, "debtor, creditor");
  const alone = movedAlone(dossier, block.header, what);
  const keys = accountKeys(what, firstAct(dossier).signed.envelope.sender);
  const said = [];
  sides.forEach(([name, sign], i) => {
    const balances = dossier[name];
    if (keys[i] === null) {
      demand(balances === null, name, "none", "a balance",
        "Such an order has no account of this side.");
    } else if (balances === null) said.push(`${name}'s account not shown`);
    else {
      const moved = alone === null ? null : sign * alone;
      const change = checkSide(name, keys[i], balances, block, moved);
      const [before, after] = change.map((each) => amountText(each, what.asset, genesis));
      said.push(`${name}'s account ${before} before, ${after} after`);
    }
  });
  if (dossier.debtor === null && dossier.creditor === null) {
    throw new Absent("what the accounts held before and after is not shown");
  }
  return `block ${height}: ${said.join("; ")}`;
}

/** One account: [before, after]. `change`: by how much alone it changed, if that is known. */
function checkSide(name, key, balances, { header, parent }, change) {
  demand(parent !== null, name, "the block below", null, "What was before stands in its state.");
  const before = balanceIn(`${name}.before`, key, balances.before, parent.state_root);
  const after = balanceIn(`${name}.after`, key, balances.after, header.state_root);
  demand(balances.after.record !== null, `${name}.after`, "an account", null,
    "Money cannot have moved on an account that is not there.");
  if (change !== null) {
    same(`${name}.after.balance`, before + change, after,
      "Nothing else happened in the block, and yet the balance is another.");
  }
  return [before, after];
}

/** What a state has of an account: 0 if it is not there. */
function balanceIn(where, key, { record, proof }, root) {
  checkRow(where, key, record, proof, root);
  return record === null ? 0n : record.balance;
}

function checkRow(where, key, record, proof, root) {
  held(where, root, key, record, proof, `what the state under ${hex(root)} holds`,
    "The ledger's state says something else.");
}

/** The keys of the accounts that were debited and credited; null where there is none. */
function accountKeys(what, sender) {
  const settlement = 0n;
  const key = (lei, kind) => ["account", lei, what.asset, kind];
  switch (what.$) {
    case "Payment":
      return [key(what.debtor, what.debtor_account), key(what.creditor, what.creditor_account)];
    case "Issue": return [null, key(what.creditor, settlement)];
    case "Redeem": return [key(sender, settlement), null];
    default: return [key(sender, what.source), key(sender, what.target)]; // MoveOwn
  }
}

/** How much moved, if nothing else happened in the block; else null. */
function movedAlone(dossier, header, what) {
  const last = dossier.steps[dossier.steps.length - 1].outcome;
  if (header.outcomes_count !== 1n || last.height !== header.height) return null;
  return last.event?.$ === "Posted" ? last.event.amount : what.amount;
}
