// JSON (RFC 8259) read strictly: UTF-8, no field twice in one object, integers exact. The browser's
// own parser keeps the last of two equal fields and rounds large integers: a reader could see
// another genesis than the one whose digest names the chain.

const MAX_JSON_DEPTH = 32;

class JsonReader {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  fail(what) {
    throw new Malformed(`not JSON: ${what} at character ${this.at}`);
  }

  space() {
    while (" \t\n\r".includes(this.text[this.at] ?? "x")) this.at += 1;
  }

  take(expected) {
    if (!this.text.startsWith(expected, this.at)) this.fail(`no "${expected}"`);
    this.at += expected.length;
  }

  value(depth) {
    if (depth > MAX_JSON_DEPTH) this.fail("too deep a nesting");
    this.space();
    const found = this.bare(depth);
    this.space();
    return found;
  }

  bare(depth) {
    switch (this.text[this.at]) {
      case "{": return this.object(depth);
      case "[": return this.list(depth);
      case '"': return this.string();
      case "t": this.take("true"); return true;
      case "f": this.take("false"); return false;
      case "n": this.take("null"); return null;
      default: return this.number();
    }
  }

  object(depth) {
    const found = new Map();
    this.take("{");
    this.space();
    if (this.text[this.at] === "}") this.at += 1;
    else {
      for (;;) {
        this.space();
        const name = this.string();
        if (found.has(name)) throw new Malformed(`field "${name}" stands twice in one object`);
        this.space();
        this.take(":");
        found.set(name, this.value(depth + 1));
        if (this.text[this.at] === "}") break;
        this.take(",");
      }
      this.at += 1;
    }
    return found;
  }

  list(depth) {
    const found = [];
    this.take("[");
    this.space();
    if (this.text[this.at] === "]") this.at += 1;
    else {
      for (;;) {
        found.push(this.value(depth + 1));
        if (this.text[this.at] === "]") break;
        this.take(",");
      }
      this.at += 1;
    }
    return found;
  }

  string() {
    const from = this.at;
    this.take('"');
    let escapes = false;
    for (;;) {
      const code = this.text.charCodeAt(this.at);
      if (!(code >= 0x20)) this.fail("no end of a text");
      if (code === 0x22) break;
      if (code === 0x5c) {
        escapes = true;
        this.escape();
      } else this.at += 1;
    }
    this.at += 1;
    const raw = this.text.slice(from, this.at);
    const text = escapes ? JSON.parse(raw) : raw.slice(1, -1);
    if (/\p{Cs}/u.test(text)) this.fail("half a character before");
    return text;
  }

  escape() {
    const form = /\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})/y;
    form.lastIndex = this.at;
    if (!form.test(this.text)) this.fail("no such escape");
    this.at = form.lastIndex;
  }

  /** Integers as BigInt. No field of a genesis file is anything else. */
  number() {
    const form = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
    form.lastIndex = this.at;
    const found = form.exec(this.text);
    if (found === null) this.fail("no value");
    if (found[1] !== undefined || found[2] !== undefined) this.fail("a number that is no integer");
    if (found[0].length > 20) this.fail("too large a number");
    this.at = form.lastIndex;
    return BigInt(found[0]);
  }
}

/** The JSON value of bytes: objects as Map, integers as BigInt. Throws Malformed. */
function parseJson(data) {
  let text;
  try {
    text = strictUtf8.decode(data);
  } catch {
    throw new Malformed("not JSON: the file is not UTF-8");
  }
  const reader = new JsonReader(text);
  const value = reader.value(0);
  if (reader.at !== text.length) reader.fail("more after the end");
  return value;
}

/** A JSON value as the named type: objects by field names, none unknown, none lacking. */
function shapeJson(value, shape, where) {
  const fail = (what) => {
    throw new Malformed(`${where || "the file"}: ${what}`);
  };
  switch (shape.is) {
    case "struct": return shapeObject(value, SCHEMA.types[shape.name], where, fail);
    case "union": {
      if (value === null && shape.of.some((each) => each.is === "null")) return null;
      return shapeJson(value, shape.of.find((each) => each.is !== "null"), where);
    }
    case "list": {
      if (!Array.isArray(value)) fail("expected a list");
      checkLength(value, shape, where);
      return value.map((item, i) => shapeJson(item, shape.item, `${where}[${i}]`));
    }
    case "bool": return typeof value === "boolean" ? value : fail("expected true or false");
    case "int": {
      if (typeof value !== "bigint") fail("expected an integer");
      return checkRange(value, shape, where);
    }
    case "str": {
      if (typeof value !== "string") fail("expected a text");
      return checkText(value, shape, where);
    }
    case "literal": {
      if (!shape.values.includes(value)) fail(`expected ${shape.values.join(" or ")}`);
      return value;
    }
    default: throw new Error(`no such shape: ${shape.is}`);
  }
}

function shapeObject(value, row, where, fail) {
  if (!(value instanceof Map)) fail("expected an object");
  const found = {};
  const left = new Map(value);
  for (const field of row.fields) {
    const at = where ? `${where}.${field.name}` : field.name;
    if (!left.has(field.name)) {
      if (!field.optional) fail(`field "${field.name}" lacks`);
      found[field.name] = null;
      continue;
    }
    found[field.name] = shapeJson(left.get(field.name), field.shape, at);
    left.delete(field.name);
  }
  for (const name of left.keys()) fail(`no field "${name}" may stand here`);
  return found;
}
