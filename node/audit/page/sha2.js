// SHA-256 and SHA-512 (FIPS 180-4), written here: the page must work where a browser withholds
// crypto.subtle, and trees of hashes are easier to follow without a promise for each.

/** The first `bits` bits of the fractional part of a root of the first `count` primes. */
function primeRoots(count, root, bits) {
  const found = [];
  for (let n = 2; found.length < count; n += 1) {
    if (!found.some((each) => n % each.prime === 0)) {
      found.push({ prime: n, digits: fraction(BigInt(n), root, BigInt(bits)) });
    }
  }
  return found.map((each) => each.digits);
}

function fraction(n, root, bits) {
  // The integer root of n · 2^(root · bits), by bisection; its low bits are the fraction.
  const target = n << (root * bits);
  let low = 0n;
  let high = 1n << (bits + 10n);
  while (high - low > 1n) {
    const middle = (low + high) >> 1n;
    if (middle ** root <= target) low = middle;
    else high = middle;
  }
  return low & ((1n << bits) - 1n);
}

const SHA256_ROUNDS = Int32Array.from(primeRoots(64, 3n, 32), Number);
const SHA256_START = Int32Array.from(primeRoots(8, 2n, 32), Number);
const SHA512_ROUNDS = BigUint64Array.from(primeRoots(80, 3n, 64));
const SHA512_START = BigUint64Array.from(primeRoots(8, 2n, 64));

/** The last blocks of a message: what is left of it, a one bit, zeros, and its length in bits. */
function padded(data, block) {
  const rest = data.length % block;
  const tail = new Uint8Array(rest + 1 + block / 8 > block ? 2 * block : block);
  tail.set(data.subarray(data.length - rest));
  tail[rest] = 0x80;
  const length = new DataView(tail.buffer);
  length.setUint32(tail.length - 8, Math.floor(data.length / 0x20000000));
  length.setUint32(tail.length - 4, (data.length << 3) >>> 0);
  return tail;
}

function hashWith(data, block, state, compress) {
  const whole = data.length - (data.length % block);
  compress(state, data, whole);
  const tail = padded(data, block);
  compress(state, tail, tail.length);
  const out = new Uint8Array(state.byteLength);
  const view = new DataView(out.buffer);
  state.forEach((word, index) => {
    if (typeof word === "bigint") view.setBigUint64(index * 8, word);
    else view.setInt32(index * 4, word);
  });
  return out;
}

/** SHA-256 of bytes: 32 bytes. */
function sha256(data) {
  return hashWith(data, 64, SHA256_START.slice(), compress256);
}

/** SHA-512 of bytes: 64 bytes. */
function sha512(data) {
  return hashWith(data, 128, SHA512_START.slice(), compress512);
}

const schedule256 = new Int32Array(64);

function compress256(state, data, end) {
  const w = schedule256;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  for (let at = 0; at < end; at += 64) {
    for (let i = 0; i < 16; i += 1) w[i] = view.getInt32(at + i * 4);
    for (let i = 16; i < 64; i += 1) {
      const x = w[i - 15];
      const y = w[i - 2];
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 64; i += 1) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + SHA256_ROUNDS[i] + w[i]) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g; g = f; f = e; e = (d + t1) | 0; d = c; c = b; b = a; a = (t1 + t2) | 0;
    }
    state[0] += a; state[1] += b; state[2] += c; state[3] += d;
    state[4] += e; state[5] += f; state[6] += g; state[7] += h;
  }
}

// 64-bit words as BigInt: slower than pairs of halves, and plain to read. What is hashed so is
// short, the preimages of signatures.
function compress512(state, data, end) {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const mask = 0xffffffffffffffffn;
  const turn = (x, by) => ((x >> by) | (x << (64n - by))) & mask;
  for (let at = 0; at < end; at += 128) {
    const w = [];
    for (let i = 0; i < 16; i += 1) w.push(view.getBigUint64(at + i * 8));
    for (let i = 16; i < 80; i += 1) {
      const s0 = turn(w[i - 15], 1n) ^ turn(w[i - 15], 8n) ^ (w[i - 15] >> 7n);
      const s1 = turn(w[i - 2], 19n) ^ turn(w[i - 2], 61n) ^ (w[i - 2] >> 6n);
      w.push((w[i - 16] + s0 + w[i - 7] + s1) & mask);
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 80; i += 1) {
      const s1 = turn(e, 14n) ^ turn(e, 18n) ^ turn(e, 41n);
      const t1 = h + s1 + ((e & f) ^ (~e & mask & g)) + SHA512_ROUNDS[i] + w[i];
      const s0 = turn(a, 28n) ^ turn(a, 34n) ^ turn(a, 39n);
      const t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
      h = g; g = f; f = e; e = (d + t1) & mask; d = c; c = b; b = a; a = (t1 + t2) & mask;
    }
    // A BigUint64Array keeps the low 64 bits of each sum.
    state[0] += a; state[1] += b; state[2] += c; state[3] += d;
    state[4] += e; state[5] += f; state[6] += g; state[7] += h;
  }
}
