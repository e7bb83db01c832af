// MessagePack in its one canonical form, read by the shapes of the types.
//
// Every value has exactly one encoding that is taken: the shortest integer and length, no float, no
// map, no field more or less. A struct keeps the bytes that it was read from, so a digest is always
// taken over bytes of the file. Integers are BigInt throughout. Depth is that of the types.

/** Bytes that are no canonical encoding of what they should be; the text says where. */
class Malformed extends Error {
  constructor(text) {
    super(shown(text)); // what a forger writes can be as long as the file
  }
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
/** Characters. */
const MAX_TAG = 64;
const patterns = new Map();

function matches(pattern, text) {
  if (!patterns.has(pattern)) patterns.set(pattern, new RegExp(pattern));
  return patterns.get(pattern).test(text);
}

/** Characters as Python counts them: code points. */
function characters(text) {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}

class Reader {
  constructor(data) {
    this.data = data;
    this.view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    this.at = 0;
  }

  byte() {
    if (this.at >= this.data.length) throw new Malformed("the file ends in the middle of a value");
    return this.data[this.at++];
  }

  bytes(count) {
    if (count > this.data.length - this.at) {
      throw new Malformed("the file ends in the middle of a value");
    }
    this.at += count;
    return this.data.subarray(this.at - count, this.at);
  }

  /** An unsigned integer of so many bytes, at least `least`: with less it had a shorter form. */
  unsigned(count, least, where) {
    let value = 0n;
    for (const byte of this.bytes(count)) value = (value << 8n) | BigInt(byte);
    if (value < least) throw new Malformed(`${where}: an over-long integer or length`);
    return value;
  }

  length(first, rows, where) {
    for (const [code, count, least] of rows) {
      if (first === code) return Number(this.unsigned(count, least, where));
    }
    return null;
  }

  read(shape, where) {
    switch (shape.is) {
      case "struct": return this.struct(SCHEMA.types[shape.name], shape.name, where);
      case "union": return this.union(shape.of, where);
      case "list": return this.list(shape, where);
      case "tuple": return this.tuple(shape, where);
      case "null": return this.nothing(where);
      case "bool": return this.bool(where);
      case "enum": return this.enumerated(shape, where);
      case "int": return checkRange(this.integer(where), shape, where);
      case "bytes": return checkLength(this.binary(where), shape, where);
      case "str": return this.text(shape, where);
      default: throw new Error(`no such shape: ${shape.is}`);
    }
  }

  nothing(where) {
    if (this.byte() !== 0xc0) throw new Malformed(`${where}: expected nothing`);
    return null;
  }

  bool(where) {
    const first = this.byte();
    if (first !== 0xc2 && first !== 0xc3) throw new Malformed(`${where}: expected true or false`);
    return first === 0xc3;
  }

  integer(where) {
    const first = this.byte();
    if (first < 0x80) return BigInt(first);
    if (first >= 0xe0) return BigInt(first - 0x100);
    switch (first) {
      case 0xcc: return this.unsigned(1, 1n << 7n, where);
      case 0xcd: return this.unsigned(2, 1n << 8n, where);
      case 0xce: return this.unsigned(4, 1n << 16n, where);
      case 0xcf: return this.unsigned(8, 1n << 32n, where);
      case 0xd0: return this.negative(1, -32n, where);
      case 0xd1: return this.negative(2, -(1n << 7n), where);
      case 0xd2: return this.negative(4, -(1n << 15n), where);
      case 0xd3: return this.negative(8, -(1n << 31n), where);
      default: throw new Malformed(`${where}: expected an integer`);
    }
  }

  /** A signed integer below `bound`: any other has a shorter form, or an unsigned one. */
  negative(count, bound, where) {
    const value = BigInt.asIntN(count * 8, this.unsigned(count, 0n, where));
    if (value >= bound) throw new Malformed(`${where}: an over-long integer`);
    return value;
  }

  enumerated(shape, where) {
    const value = this.integer(where);
    if (!shape.values.includes(String(value))) {
      throw new Malformed(`${where}: ${value} is none of ${shape.values.join(", ")}`);
    }
    return value;
  }

  binary(where) {
    const first = this.byte();
    const rows = [[0xc4, 1, 0n], [0xc5, 2, 1n << 8n], [0xc6, 4, 1n << 16n]];
    const count = this.length(first, rows, where);
    if (count === null) throw new Malformed(`${where}: expected bytes`);
    return this.bytes(count);
  }

  /** A text of at most so many characters, of which none takes more than four bytes. */
  string(where, most = Infinity) {
    const first = this.byte();
    const rows = [[0xd9, 1, 32n], [0xda, 2, 1n << 8n], [0xdb, 4, 1n << 16n]];
    const count = first >= 0xa0 && first <= 0xbf ? first & 0x1f : this.length(first, rows, where);
    if (count === null) throw new Malformed(`${where}: expected a text`);
    if (count > 4 * most) throw new Malformed(`${where}: a text of ${count} bytes`);
    try {
      return strictUtf8.decode(this.bytes(count));
    } catch (error) {
      if (error instanceof Malformed) throw error;
      throw new Malformed(`${where}: a text that is not UTF-8`);
    }
  }

  text(shape, where) {
    return checkText(this.string(where, shape.max), shape, where);
  }

  array(where) {
    const first = this.byte();
    if (first >= 0x90 && first <= 0x9f) return first & 0x0f;
    const count = this.length(first, [[0xdc, 2, 16n], [0xdd, 4, 1n << 16n]], where);
    if (count === null) throw new Malformed(`${where}: expected a list of values`);
    return count;
  }

  list(shape, where) {
    const count = this.array(where);
    checkLength({ length: count }, shape, where);
    const found = [];
    for (let i = 0; i < count; i += 1) found.push(this.read(shape.item, `${where}[${i}]`));
    return found;
  }

  tuple(shape, where) {
    const count = this.array(where);
    if (count !== shape.items.length) {
      throw new Malformed(`${where}: ${count} values instead of ${shape.items.length}`);
    }
    return shape.items.map((item, i) => this.read(item, `${where}[${i}]`));
  }

  struct(row, name, where) {
    const from = this.at;
    const count = this.array(where);
    const expected = row.fields.length + (row.tag === null ? 0 : 1);
    if (count !== expected) {
      throw new Malformed(`${where}: ${count} fields instead of the ${expected} of ${name}`);
    }
    if (row.tag !== null) {
      const tag = this.string(where, row.tag.length);
      if (tag !== row.tag) throw new Malformed(`${where}: "${tag}" instead of "${row.tag}"`);
    }
    const value = { $: name, raw: null };
    for (const field of row.fields) {
      value[field.name] = this.read(field.shape, where ? `${where}.${field.name}` : field.name);
    }
    value.raw = this.data.subarray(from, this.at);
    return value;
  }

  /** One of several shapes: told by the family of the first byte, structs by their tag. */
  union(shapes, where) {
    const first = this.data[this.at];
    const family = familyOf(first);
    const fitting = shapes.filter((shape) => familyOfShape(shape) === family);
    if (fitting.length === 0) throw new Malformed(`${where}: none of what may stand here`);
    if (family !== "array" || fitting.length === 1) return this.read(fitting[0], where);
    const from = this.at;
    this.array(where);
    const tag = this.string(where, MAX_TAG);
    this.at = from;
    const found = fitting.find((shape) => SCHEMA.types[shape.name]?.tag === tag);
    if (found === undefined) throw new Malformed(`${where}: no "${tag}" may stand here`);
    return this.read(found, where);
  }
}

function familyOf(first) {
  if (first === 0xc0) return "null";
  if (first === 0xc2 || first === 0xc3) return "bool";
  if (first >= 0xc4 && first <= 0xc6) return "bytes";
  if ((first >= 0xa0 && first <= 0xbf) || (first >= 0xd9 && first <= 0xdb)) return "str";
  if ((first >= 0x90 && first <= 0x9f) || first === 0xdc || first === 0xdd) return "array";
  return "int";
}

function familyOfShape(shape) {
  if (shape.is === "enum") return "int";
  return ["struct", "list", "tuple"].includes(shape.is) ? "array" : shape.is;
}

function checkRange(value, shape, where) {
  if (shape.min !== undefined && value < BigInt(shape.min)) {
    throw new Malformed(`${where}: ${value} is below ${shape.min}`);
  }
  if (shape.max !== undefined && value > BigInt(shape.max)) {
    throw new Malformed(`${where}: ${value} is above ${shape.max}`);
  }
  return value;
}

function checkLength(value, shape, where, length = value.length) {
  if (length < (shape.min ?? 0) || length > (shape.max ?? Infinity)) {
    throw new Malformed(`${where}: of length ${length}, which no such field has`);
  }
  return value;
}

function checkText(text, shape, where) {
  checkLength(text, shape, where, characters(text));
  if (shape.pattern !== undefined && !matches(shape.pattern, text)) {
    throw new Malformed(`${where}: "${text}" is no such text`);
  }
  return text;
}

/** Decode canonical bytes into the named type. Throws Malformed. */
function decode(data, name) {
  const reader = new Reader(data);
  const value = reader.read({ is: "struct", name }, "");
  if (reader.at !== data.length) {
    throw new Malformed(`${data.length - reader.at} bytes too many at the end`);
  }
  return value;
}

/** The canonical bytes of integers (BigInt), texts, bytes, booleans, null, arrays of these, and of
    structs that were read from a file. */
function encode(value) {
  if (value === null) return Uint8Array.of(0xc0);
  if (typeof value === "boolean") return Uint8Array.of(value ? 0xc3 : 0xc2);
  if (typeof value === "bigint") return encodeInteger(value);
  if (typeof value === "string") {
    const bytes = utf8(value);
    return joined(header(bytes.length, 0xa0, 32, [0xd9, 0xda, 0xdb]), bytes);
  }
  if (value instanceof Uint8Array) {
    return joined(header(value.length, 0, 0, [0xc4, 0xc5, 0xc6]), value);
  }
  if (Array.isArray(value)) {
    const head = header(value.length, 0x90, 16, [null, 0xdc, 0xdd]);
    return concatenated([head, ...value.map(encode)]);
  }
  return value.raw;
}

function header(count, short, below, codes) {
  if (count < below) return Uint8Array.of(short | count);
  if (count < 1 << 8 && codes[0] !== null) return Uint8Array.of(codes[0], count);
  if (count < 1 << 16) return Uint8Array.of(codes[1], count >> 8, count & 0xff);
  return joined(Uint8Array.of(codes[2]), bigEndian(BigInt(count), 4));
}

function bigEndian(value, count) {
  const out = new Uint8Array(count);
  for (let i = count - 1; i >= 0; i -= 1, value >>= 8n) out[i] = Number(value & 0xffn);
  return out;
}

function encodeInteger(value) {
  if (value >= -32n && value < 128n) return Uint8Array.of(Number(BigInt.asUintN(8, value)));
  const bits = [8, 16, 32, 64];
  const size = value < 0n
    ? bits.find((each) => BigInt.asIntN(each, value) === value)
    : bits.find((each) => BigInt.asUintN(each, value) === value);
  const code = (value < 0n ? 0xd0 : 0xcc) + bits.indexOf(size);
  return joined(Uint8Array.of(code), bigEndian(BigInt.asUintN(size, value), size / 8));
}
