// The page itself: takes files, shows lines. Everything from a file is set as text, never as
// markup.

const byId = (id) => document.getElementById(id);
const chosen = { evidence: null, genesis: null, checkpoint: null };
const bounds = {
  evidence: SCHEMA.maxEvidenceBytes,
  genesis: SCHEMA.maxGenesisBytes,
  checkpoint: MAX_NOTE_BYTES,
};
let run = 0;

const MEANINGS = {
  VALID: "Every check that this evidence calls for passed.",
  INVALID: "At least one check failed: this file does not prove what it claims.",
  UNDECIDED: "Nothing failed, but what is needed for a verdict is not here.",
};

/** Checks whose lines say what the evidence is about. */
const SUBJECTS = ["payment", "balance", "absence", "conflict", "votes"];

function counted(bytes) {
  return `${bytes.toLocaleString("en-GB")} bytes`;
}

/** Take a file as evidence, genesis or checkpoint. A file that is too large is not read at all. */
async function takeFile(role, file) {
  const note = byId(`${role}-note`);
  if (role === "checkpoint") byId("known").value = "";
  chosen[role] = null;
  note.textContent = "";
  if (file === undefined || file === null) {
    await verifyChosen();
    return;
  }
  const name = printable(file.name);
  if (file.size > bounds[role]) {
    note.textContent = `${name}: ${counted(file.size)}, which is more than any such file has `
      + `(${counted(bounds[role])}). It was not read.`;
  } else {
    try {
      const data = new Uint8Array(await file.arrayBuffer());
      chosen[role] = { name, data };
      note.textContent = `${name}, ${counted(data.length)}`;
    } catch (error) {
      note.textContent = `${name} could not be read: ${printable(error.message)}`;
    }
  }
  await verifyChosen();
}

/** Take a checkpoint that was typed. */
async function takeTyped(text) {
  byId("checkpoint").value = "";
  const typed = text.trim();
  chosen.checkpoint = typed === "" ? null : { name: "typed", data: utf8(typed) };
  byId("checkpoint-note").textContent = typed === "" ? "" : "as typed";
  await verifyChosen();
}

/** Which of the three a dropped file is, by how it begins. */
async function roleOf(file) {
  const start = new Uint8Array(await file.slice(0, 64).arrayBuffer());
  if (start[0] >= 0x80) return "evidence";
  const text = String.fromCharCode(...start).trimStart();
  if (text.startsWith("{")) return "genesis";
  return text.startsWith("nostro/") ? "checkpoint" : "evidence";
}

function cell(kind, text) {
  const element = document.createElement(kind);
  element.textContent = text;
  return element;
}

function showLine(line) {
  const row = document.createElement("tr");
  row.className = line.result;
  const name = cell("th", line.check);
  name.scope = "row";
  row.append(cell("td", line.result), name, cell("td", line.text));
  byId("checks").tBodies[0].append(row);
}

/** SHA-256 for the record: the browser's own where it has one, since files may be large. */
async function fileDigest(data) {
  const own = globalThis.crypto?.subtle;
  return hex(own === undefined ? sha256(data) : new Uint8Array(await own.digest("SHA-256", data)));
}

async function showRecord(files, report) {
  const list = byId("record");
  list.replaceChildren();
  if (report.genesis !== null) {
    const { network, chainId, devnet } = report.genesis;
    const warning = devnet ? "; a devnet, whose keys everybody knows" : "";
    list.append(cell("dt", "Network"), cell("dd", `${network}, chain ${hex(chainId)}${warning}`));
  }
  for (const [role, file] of Object.entries(files)) {
    if (file === null) continue;
    const what = { evidence: "Evidence", genesis: "Genesis file", checkpoint: "Checkpoint" }[role];
    const digest = await fileDigest(file.data);
    const text = `${file.name}, ${counted(file.data.length)}, SHA-256 ${digest}`;
    list.append(cell("dt", what), cell("dd", text));
  }
  for (const culprit of report.culprits) {
    const text = `${culprit.name} of ${culprit.operator}, epoch ${culprit.epoch}, validator `
      + `${culprit.validator}: ${culprit.fault}`;
    list.append(cell("dt", "Named"), cell("dd", printable(text)));
  }
  const time = new Date().toISOString().replace(/\..*/, "Z");
  list.append(cell("dt", "Verified"), cell("dd", `${time}, by the clock of this machine`));
}

function showVerdict(report) {
  const verdict = byId("verdict");
  verdict.textContent = report.verdict;
  verdict.className = report.verdict;
  const failed = report.lines.filter((line) => line.result === "FAIL").map((line) => line.check);
  const which = failed.length > 0 ? ` Failed: ${[...new Set(failed)].join(", ")}.` : "";
  byId("meaning").textContent = MEANINGS[report.verdict] + which;
  const status = report.status === null ? "" : `Proved status of the payment: ${report.status}`;
  byId("proved").textContent = status;
  const about = report.lines.find((line) => SUBJECTS.includes(line.check));
  byId("about").textContent = report.verdict === "VALID" && about ? about.text : "";
}

/** Verify what was chosen, once evidence and genesis are there. A later choice overtakes it. */
async function verifyChosen() {
  run += 1;
  const own = run;
  const files = { ...chosen };
  byId("result").hidden = true;
  byId("progress").textContent = "";
  if (files.evidence === null || files.genesis === null) return;
  byId("checks").tBodies[0].replaceChildren();
  const begun = Date.now();
  byId("progress").textContent = "Checking…";
  byId("progress").className = "";
  const onLine = async (line) => {
    if (own !== run) throw new Overtaken();
    showLine(line);
    // Said once it takes a while, and not each time: a screen reader reads all of it out.
    if (Date.now() - begun > 2000) byId("progress").textContent = `Checking… after ${line.check}`;
    await pause();
  };
  try {
    const data = files.checkpoint === null ? null : files.checkpoint.data;
    const report = await verifyFile(files.evidence.data, files.genesis.data, data, onLine);
    if (own !== run) return;
    await showRecord(files, report);
    if (own !== run) return;
    showVerdict(report);
    byId("result").hidden = false;
    byId("progress").className = "done";
    byId("progress").textContent = `Done: ${report.verdict}`;
    byId("verdict").focus();
  } catch (error) {
    if (error instanceof Overtaken || own !== run) return;
    byId("progress").textContent = "This page failed, which says nothing about the file "
      + `(${printable(String(error))}). Use nostro verify.`;
  }
}

/** The reader chose other files meanwhile. */
class Overtaken extends Error {}

for (const role of Object.keys(chosen)) {
  byId(role).addEventListener("change", (event) => takeFile(role, event.target.files[0]));
  if (byId(role).files.length > 0) takeFile(role, byId(role).files[0]);
}
byId("known").addEventListener("change", (event) => takeTyped(event.target.value));
byId("files").addEventListener("submit", (event) => event.preventDefault());
byId("print").addEventListener("click", () => window.print());
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.body.classList.remove("dropping");
});
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const files = [...event.dataTransfer.files].slice(0, Object.keys(chosen).length);
  for (const file of files) {
    const role = await roleOf(file);
    byId(role).value = "";
    await takeFile(role, file);
  }
});

arithmetic().then(
  ({ name }) => { byId("arithmetic").textContent = `Signatures: ${name}.`; },
  (error) => { byId("arithmetic").textContent = printable(error.message); },
);

/** For who drives the page from a script: everything that it computes, as functions of bytes. */
globalThis.nostro = Object.freeze({
  verifyFile, loadGenesis, verifyEvidence, arithmetic, sha256, sha512, unhex, hex,
  ed25519: Object.freeze({
    offered: globalThis.crypto?.subtle !== undefined,
    browser: (...parts) => verifyWith(arithmeticOfBrowser, ...parts),
    bundled: (...parts) => verifyWith(arithmeticHere, ...parts),
    soundKey: isSoundKey,
  }),
});
