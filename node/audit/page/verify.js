// What a file of evidence proves: a line a check, and the verdict over all of them. The room of
// node/audit/verify.py and report.py.

const [VALID, INVALID, UNDECIDED] = ["VALID", "INVALID", "UNDECIDED"];

/** What verification found. */
class Report {
  /** `onLine`: called, and waited for, with each line as it comes. */
  constructor(onLine) {
    this.lines = [];
    this.undecided = false;
    this.kind = null;
    this.status = null;
    this.culprits = [];
    this.named = [];
    this.genesis = null;
    this.onLine = onLine ?? (() => undefined);
  }

  get verdict() {
    if (this.lines.some((line) => line.result === "FAIL")) return INVALID;
    return this.undecided ? UNDECIDED : VALID;
  }

  async add(result, check, text) {
    const line = { result, check, text: printable(text) };
    this.lines.push(line);
    await this.onLine(line);
  }

  /** Do one check and note what it says. */
  async run(check, body) {
    try {
      await this.add("PASS", check, await body());
    } catch (error) {
      if (error instanceof Fault) await this.add("FAIL", check, error.message);
      else if (error instanceof Absent) await this.add("NOTE", check, error.message);
      else if (error instanceof Missing) {
        this.undecided = true;
        await this.add("NOTE", check, `cannot be decided: ${error.message}`);
      } else throw error;
    }
  }
}

/** The format that a file says it has; null if it says nothing of the kind. */
function tagOf(data) {
  if (data.length < 2 || data[0] < 0x91 || data[0] > 0x9f) return null;
  if (data[1] < 0xa1 || data[1] > 0xbf) return null;
  return String.fromCharCode(...data.subarray(2, 2 + (data[1] & 0x1f)));
}

const KIND_WORDS = {
  Dossier: ["dossier", "a dossier"],
  BalanceProof: ["balance", "the proof of a balance"],
  AbsenceProof: ["absence", "the proof of an absence"],
  ForkProof: ["fork", "the proof of a fork"],
  EquivocationProof: ["equivocation", "the proof of an equivocation"],
};

/** Decode a file of evidence: [type, value]. Throws Malformed with what it is instead. */
function readEvidence(data) {
  const tag = tagOf(data);
  const name = Object.hasOwn(SCHEMA.evidence, tag) ? SCHEMA.evidence[tag] : "Dossier";
  const what = KIND_WORDS[name][1];
  if (data.length === 0) throw new Malformed("the file is empty");
  if (data.length > SCHEMA.maxEvidenceBytes) throw new Malformed(tooLarge(data.length));
  if (data[0] === 0x7b) throw new Malformed(`this is not ${what}: it looks like a genesis file`);
  try {
    return [name, decode(data, name)];
  } catch (error) {
    if (error instanceof Malformed) throw new Malformed(`this is not ${what}: ${error.message}`);
    throw error;
  }
}

function tooLarge(size) {
  return `the file has ${size} bytes, no evidence has more than ${SCHEMA.maxEvidenceBytes}`;
}

/** Check a file of evidence against a genesis file already read. `checkpoint`: one that the reader
    trusts, or null. Throws nothing that the file could bring about. */
async function verifyEvidence(data, genesis, checkpoint, onLine) {
  const report = new Report(onLine);
  report.genesis = genesis;
  let name;
  let evidence;
  try {
    [name, evidence] = readEvidence(data);
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    await report.add("FAIL", "file", error.message);
    return report;
  }
  [report.kind] = KIND_WORDS[name];
  await CHECKS_OF[name](report, evidence, genesis, checkpoint);
  if (report.verdict === VALID) report.culprits = report.named;
  return report;
}

async function verifyFork(report, proof, genesis) {
  for (const [name, check] of FORK_CHECKS) {
    await report.run(name, () => check(proof, genesis, report));
  }
  await report.add("NOTE", "keys", KEYS_NOTE);
}

async function verifyEquivocation(report, proof, genesis) {
  for (const [name, check] of EQUIVOCATION_CHECKS) {
    await report.run(name, () => check(proof, genesis, report));
  }
  await report.add("NOTE", "keys", KEYS_NOTE);
}

const CHECKS_OF = {
  Dossier: verifyDossier,
  BalanceProof: verifyBalance,
  AbsenceProof: verifyAbsence,
  ForkProof: verifyFork,
  EquivocationProof: verifyEquivocation,
};

/** Check a file of evidence against a genesis file, both as bytes; the whole of what the page does.
    Throws nothing that a file could bring about. */
async function verifyFile(data, genesisData, checkpointData, onLine) {
  const unable = async (what, text) => {
    const report = new Report(onLine);
    report.undecided = true;
    await report.add("NOTE", what, `nothing can be checked: ${text}`);
    return report;
  };
  let genesis;
  try {
    await arithmetic();
    genesis = await loadGenesis(genesisData);
  } catch (error) {
    if (error instanceof BadGenesis || error instanceof BadArithmetic) {
      return unable("genesis", error.message);
    }
    throw error;
  }
  let checkpoint = null;
  try {
    if (checkpointData) checkpoint = readCheckpoint(checkpointData, genesis);
  } catch (error) {
    if (error instanceof Malformed) return unable("checkpoint", error.message);
    throw error;
  }
  return verifyEvidence(data, genesis, checkpoint, onLine);
}
