// The genesis file: the trust root that the reader was handed. Its digest is the chain id.
//
// The same demands as node/chain/genesis.py and genesis_checks.py: shapes, references, no name and
// no key twice, and that each key's holder showed to have it.

/** A genesis file that no chain may start from; the text says why. */
class BadGenesis extends Error {}

const ROLES = ["auditor", "depository", "direct-participant", "indirect-participant", "issuer",
  "operator", "payment-institution", "supervisor", "validator"];
const ACCOUNT_ROLES = ["depository", "direct-participant", "issuer", "payment-institution"];
const INDIRECT = "indirect-participant";
const ISIN = /^[A-Z]{2}[A-Z0-9]{9}[0-9]$/;

/** Read and check a genesis file. Throws BadGenesis. */
async function loadGenesis(data) {
  if (data.length > SCHEMA.maxGenesisBytes) {
    throw new BadGenesis(`it has ${data.length} bytes, at most ${SCHEMA.maxGenesisBytes}`);
  }
  let file;
  try {
    file = shapeJson(parseJson(data), { is: "struct", name: SCHEMA.genesis }, "");
  } catch (error) {
    if (error instanceof Malformed) throw new BadGenesis(`not a genesis file: ${error.message}`);
    throw error;
  }
  const parts = ["schedule", "netting", "members", "policies"];
  for (const part of parts) file[part] ??= [];
  checkParticipants(file.participants);
  const known = new Map(file.participants.map((each) => [each.lei, each]));
  checkSponsors(file.participants, known);
  checkAssets(file.assets, known);
  checkValidators(file, known);
  checkSettlement(file, known);
  checkPolicies(file, known);
  await checkKeys(file);
  return {
    chainId: sha256(joined(framed("nostro.genesis/1"), data)),
    network: file.network,
    devnet: file.devnet,
    time: file.time,
    assets: new Map(file.assets.map((each) => [each.code, each])),
    names: new Map(file.participants.map((each) => [each.lei, each.name])),
    validators: genesisSet(file.validators),
  };
}

function genesisSet(rows) {
  const validators = rows.map((row) => {
    const [vote, node] = [unhex(row.vote_key), unhex(row.node_key)];
    const address = row.address ?? "";
    const raw = encode(["validator/2", row.name, row.operator, vote, node, address]);
    return { name: row.name, operator: row.operator, vote_key: vote, node_key: node, raw };
  });
  return { epoch: 0n, validators, raw: encode(["validator-set/1", 0n, validators]) };
}

function refuse(when, text) {
  if (when) throw new BadGenesis(text);
}

function refuseTwice(values, what) {
  const seen = new Set();
  for (const value of values) {
    refuse(seen.has(value), `${what} ${value} stands twice`);
    seen.add(value);
  }
}

function checkParticipants(participants) {
  for (const field of ["name", "lei", "bic"]) {
    refuseTwice(participants.map((each) => each[field]), `participants: ${field}`);
  }
  const codes = new Map();
  participants.forEach((each, i) => codes.set(each.lei, i).set(each.bic, i));
  participants.forEach((each, i) => {
    const where = `participants[${i}] (${each.name})`;
    // People name a participant by any of the three.
    refuse((codes.get(each.name) ?? i) !== i, `${where}.name: another's LEI or BIC`);
    for (const role of each.roles) refuse(!ROLES.includes(role), `${where}.roles: "${role}"`);
    refuseTwice(each.roles, `${where}.roles:`);
    refuse(each.threshold > each.keys.length, `${where}.threshold: more than it has keys`);
  });
}

function checkRole(known, where, lei, roles) {
  refuse(!known.has(lei), `${where}: no participant has the LEI ${lei}`);
  const has = known.get(lei).roles.some((role) => roles.includes(role));
  refuse(!has, `${where}: ${known.get(lei).name} does not have the role ${roles.join(" or ")}`);
}

function checkSponsors(participants, known) {
  participants.forEach((each, i) => {
    const where = `participants[${i}] (${each.name})`;
    if (!each.roles.includes(INDIRECT)) {
      refuse(each.sponsor !== null, `${where}.sponsor: only an ${INDIRECT} has one`);
      return;
    }
    const account = each.roles.find((role) => ACCOUNT_ROLES.includes(role));
    refuse(account !== undefined, `${where}.roles: an ${INDIRECT} has no account`);
    refuse(each.sponsor === null, `${where}.sponsor: an ${INDIRECT} needs one`);
    checkRole(known, `${where}.sponsor`, each.sponsor, ["direct-participant"]);
  });
}

/** Whether an asset is a security: what a depository issues is; of one that issues currencies too,
    what has the form of an ISIN. */
function isSecurity(code, roles) {
  return roles.includes("depository") && (!roles.includes("issuer") || ISIN.test(code));
}

/** Whether the check digit of an ISIN is right (ISO 6166, Luhn's formula). */
function isIsin(code) {
  if (!ISIN.test(code)) return false;
  const digits = [...code].map((c) => parseInt(c, 36)).join("");
  let sum = 0;
  [...digits].reverse().forEach((digit, i) => {
    const value = Number(digit) * (i % 2 + 1);
    sum += value > 9 ? value - 9 : value;
  });
  return sum % 10 === 0;
}

function checkAssets(assets, known) {
  refuseTwice(assets.map((each) => each.code), "assets: code");
  assets.forEach((each, i) => {
    const where = `assets[${i}] (${each.code})`;
    checkRole(known, `${where}.issuer`, each.issuer, ["issuer", "depository"]);
    const security = isSecurity(each.code, known.get(each.issuer).roles);
    refuse(security && !isIsin(each.code), `${where}.code: a depository's asset, but no ISIN`);
  });
}

function checkValidators(file, known) {
  refuseTwice(file.validators.map((each) => each.name), "validators: name");
  file.validators.forEach((each, i) => {
    const where = `validators[${i}] (${each.name}).operator`;
    checkRole(known, where, each.operator, ["validator"]);
  });
  const operators = file.participants.filter((each) => each.roles.includes("operator"));
  const keys = operators.reduce((sum, each) => sum + each.keys.length, 0);
  const threshold = file.parameters.governance_threshold ?? 1n;
  refuse(
    threshold > Math.max(keys, 1),
    `parameters.governance_threshold: ${threshold} approvals of ${keys} operator keys`,
  );
}

function checkSettlement(file, known) {
  refuseTwice(file.netting.map((each) => each.asset), "netting: asset");
  const issuers = new Map(file.assets.map((each) => [each.code, known.get(each.issuer)]));
  file.netting.forEach(({ asset }, i) => {
    refuse(!issuers.has(asset), `netting[${i}].asset: no asset has the code ${asset}`);
    const security = isSecurity(asset, issuers.get(asset).roles);
    refuse(security, `netting[${i}].asset: ${asset} is a security`);
  });
  const netted = new Set(file.netting.map((each) => each.asset));
  refuseTwice(file.members.map((each) => `${each.participant} in ${each.asset}`), "members:");
  file.members.forEach((each, i) => {
    checkRole(known, `members[${i}].participant`, each.participant, ACCOUNT_ROLES);
    refuse(!netted.has(each.asset), `members[${i}].asset: ${each.asset} has no cycles`);
  });
  refuseTwice(file.schedule.map((each) => each.date), "schedule: date");
  file.schedule.forEach((day, i) => {
    refuse(i === 0 && day.begins[0] <= file.time, "schedule[0].begins: before the genesis time");
    for (const { asset } of day.closes ?? []) {
      refuse(!netted.has(asset), `schedule[${i}].closes: ${asset} has no cycles`);
    }
  });
}

function checkPolicies(file, known) {
  const assets = new Set(file.assets.map((each) => each.code));
  refuseTwice(file.policies.map((each) => each.participant), "policies: participant");
  file.policies.forEach((policy, i) => {
    const where = `policies[${i}]`;
    const sweeps = policy.sweeps ?? [];
    checkRole(known, `${where}.participant`, policy.participant, ACCOUNT_ROLES);
    refuseTwice(sweeps.map((each) => each.asset), `${where}.sweeps: asset`);
    for (const sweep of sweeps) {
      refuse(!assets.has(sweep.asset), `${where}.sweeps: no asset has the code ${sweep.asset}`);
      checkRole(known, `${where}.sweeps`, sweep.to, ACCOUNT_ROLES);
      refuse(sweep.to === policy.participant, `${where}.sweeps: to the participant itself`);
    }
  });
}

/** One key in two places would let a quorum be met by fewer holders than it counts. */
async function checkKeys(file) {
  const held = [];
  file.participants.forEach((each, i) => each.keys.forEach((key, j) => {
    const where = `participants[${i}].keys[${j}] (${each.name})`;
    held.push([where, key.public_key, key.possession, "participant", each.lei]);
  }));
  file.validators.forEach((each, i) => {
    const where = `validators[${i}] (${each.name})`;
    const { operator } = each;
    held.push([`${where}.vote_key`, each.vote_key, each.vote_possession, "vote", operator]);
    held.push([`${where}.node_key`, each.node_key, each.node_possession, "node", operator]);
  });
  const seen = new Map();
  for (const [where, digits, possession, role, lei] of held) {
    refuse(seen.has(digits), `${where}: the same key as ${seen.get(digits)}`);
    seen.set(digits, where);
    const key = unhex(digits);
    refuse(!isSoundKey(key), `${where}: no canonical Ed25519 point of the prime-order subgroup`);
    const payload = encode([role, `${file.network}/${lei}`, key]);
    // The chain id is the digest of the file that holds these: zeros stand for it.
    const proven = await verify(key, "nostro.possession/1", ZEROS, payload, unhex(possession));
    refuse(!proven, `${where}: no valid proof of possession`);
  }
}
