// A checkpoint that the reader brings: a C2SP signed note (node/audit/note.py,
// verify_checkpoint.py).
//
// Its signatures are not checked here: whoever chooses the file vouches for it. nostro verify takes
// the keys of witnesses to check it against.

const MAX_NOTE_BYTES = 128 * 1024;
const MAX_NOTE_SIGNATURES = 64;
const MAX_CHECKPOINT_HEIGHT = (1n << 63n) - 1n;
const FORKS = "This history forks from the checkpoint: the two cannot both be of one chain. Keep "
  + "both files; together they prove it.";

/** Bytes of base64 in their one spelling; null if it is no such text. */
function base64(text) {
  try {
    const raw = atob(text);
    return btoa(raw) === text ? Uint8Array.from(raw, (c) => c.charCodeAt(0)) : null;
  } catch {
    return null;
  }
}

const PLAIN_CHECKPOINT = /^(0|[1-9][0-9]{0,18}):([0-9a-f]{64})\s*$/;

/** The height, digest and root (null: not known) that a checkpoint of this chain names: a signed
    note, or HEIGHT:DIGEST. Throws Malformed. */
function readCheckpoint(data, genesis) {
  const refuse = (when, why) => {
    if (when) throw new Malformed(`this is no checkpoint of this chain: ${why}`);
  };
  refuse(data.length > MAX_NOTE_BYTES, `it has ${data.length} bytes, at most ${MAX_NOTE_BYTES}`);
  let text;
  try {
    text = strictUtf8.decode(data);
  } catch {
    refuse(true, "it is not UTF-8");
  }
  const plain = PLAIN_CHECKPOINT.exec(text);
  if (plain !== null) return { height: BigInt(plain[1]), root: null, digest: unhex(plain[2]) };
  refuse(/[\x00-\x09\x0b-\x1f]/.test(text), "it holds a control character");
  const end = text.lastIndexOf("\n\n");
  refuse(end < 0 || !text.endsWith("\n") || end + 2 === text.length, "it is no signed note");
  const signatures = text.slice(end + 2, -1).split("\n");
  refuse(signatures.length > MAX_NOTE_SIGNATURES, `it has ${signatures.length} signatures`);
  for (const line of signatures) {
    const found = /^\u2014 [^\s+\p{C}]{1,200} (\S+)$/u.exec(line);
    const signed = found === null ? null : base64(found[1]);
    refuse(signed === null || signed.length <= 4, "a line below the empty one is no signature");
  }
  const [origin, size, root, block, ...more] = text.slice(0, end).split("\n");
  refuse(block === undefined || more.length > 0, "its text does not have four lines");
  const expected = `nostro/${genesis.network}/${hex(genesis.chainId)}`;
  refuse(origin !== expected, `it is of ${origin}, and the genesis file is of ${expected}`);
  refuse(!/^[1-9][0-9]{0,18}$/.test(size) || BigInt(size) > MAX_CHECKPOINT_HEIGHT,
    "line 2 is no height");
  const rootBytes = base64(root);
  refuse(rootBytes === null || rootBytes.length !== 32, "line 3 is no root");
  refuse(!/^block [0-9a-f]{64}$/.test(block), "line 4 names no block");
  return { height: BigInt(size), root: rootBytes, digest: unhex(block.slice(6)) };
}

/** Check that evidence is of the history that the checkpoint names. `headers`: all that it shows to
    be of its history; `pinned`: the earlier block that it proves besides, or null; `tip`: the block
    as of which it speaks. */
function checkPin(checkpoint, headers, pinned, tip) {
  const { height } = checkpoint;
  const where = `checkpoint of height ${height}`;
  let shown = false;
  for (const header of headers.filter((each) => each.height === height)) {
    same(`${where}, block`, checkpoint.digest, headerDigest(header), FORKS);
    if (checkpoint.root !== null) {
      same(`${where}, root`, checkpoint.root, header.history_root, FORKS);
    }
    shown = true;
  }
  if (pinned !== null && pinned.height === height) {
    same(`${where}, block`, checkpoint.digest, pinned.digest, FORKS);
    shown = true;
  }
  if (shown) {
    return `the checkpoint of height ${height} is of this history; its reader vouches for it, `
      + "nobody's signature on it was checked here";
  }
  if (height > tip.height) {
    throw new Missing(`the evidence ends at height ${tip.height}, before the checkpoint of height `
      + `${height}: have it made anew`);
  }
  throw new Missing(`the evidence does not show the block of height ${height}, which the `
    + "checkpoint names: have it made anew with nostro evidence --checkpoint");
}
