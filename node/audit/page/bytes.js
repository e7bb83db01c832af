// Bytes: comparing, joining, showing. And why a check did not pass.

/** A check failed: the field, expected, found, and what that means in plain words. */
class Fault extends Error {
  constructor(where, expected, found, meaning) {
    super(`${where}: expected ${shown(expected)}, found ${shown(found)}. ${meaning}`);
    this.where = where;
  }
}

/** A mandatory part is not in the evidence: the check can neither pass nor fail. */
class Missing extends Error {}

/** An optional part is not in the evidence. */
class Absent extends Error {}

const MAX_SHOWN = 300;

/** For people: bytes as hexadecimal digits, null as "none"; of what is very long the beginning. */
function shown(value) {
  let text = value === null ? "none" : String(value);
  if (value instanceof Uint8Array) text = hex(value.subarray(0, MAX_SHOWN));
  if (value?.raw) text = hex(value.raw.subarray(0, MAX_SHOWN));
  return text.length <= MAX_SHOWN ? text : `${text.slice(0, MAX_SHOWN)}…`;
}

/** Throw Fault unless the two are equal: byte strings, integers, texts or null. */
function same(where, expected, found, meaning) {
  if (!alike(expected, found)) throw new Fault(where, expected, found, meaning);
}

/** Throw Fault unless it is so. */
function demand(holds, where, expected, found, meaning) {
  if (!holds) throw new Fault(where, expected, found, meaning);
}

/** Whether two byte strings, integers, texts, nulls, or structs that were read, are equal. */
function alike(one, other) {
  if (one instanceof Uint8Array && other instanceof Uint8Array) return order(one, other) === 0;
  if (one?.raw && other?.raw) return order(one.raw, other.raw) === 0;
  return one === other;
}

/** Below, equal or above zero as byte strings are ordered: byte by byte, a prefix first. */
function order(one, other) {
  const end = Math.min(one.length, other.length);
  for (let i = 0; i < end; i += 1) {
    if (one[i] !== other[i]) return one[i] - other[i];
  }
  return one.length - other.length;
}

/** The same for anything that stands in a list that ascends; texts by code point. */
function compare(one, other) {
  if (one instanceof Uint8Array) return order(one, other);
  if (typeof one === "string") return order(utf8(one), utf8(other));
  return one < other ? -1 : Number(one > other);
}

/** Whether each is above the one before it, by `key`. */
function ascends(list, key) {
  return list.every((each, i) => i === 0 || compare(key(list[i - 1]), key(each)) < 0);
}

function joined(...parts) {
  return concatenated(parts);
}

/** The same of any number of parts: a call takes only so many arguments. */
function concatenated(parts) {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

function hex(bytes) {
  let text = "";
  for (const byte of bytes) text += HEX[byte];
  return text;
}

/** Bytes of an even number of hexadecimal digits, which the caller has made sure of. */
function unhex(text) {
  const out = new Uint8Array(text.length / 2);
  for (let i = 0; i < out.length; i += 1) out[i] = parseInt(text.substr(2 * i, 2), 16);
  return out;
}

const utf8Encoder = new TextEncoder();

function utf8(text) {
  return utf8Encoder.encode(text);
}

const ZEROS = new Uint8Array(32);

/** A text of the file for people: nothing in it can turn the writing round or hide a line. */
function printable(text) {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}
