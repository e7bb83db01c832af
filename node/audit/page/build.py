"""Puts verify.html together: every source inlined, and a content policy that runs nothing else.

The same sources give the same bytes, so that two people can compare what they built.
"""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import sha256
from html import escape
from pathlib import Path

from node.audit.page.schema import schema

HERE = Path(__file__).parent
LIBRARY = "vendor/noble-ed25519.js"
LICENCES = ("vendor/LICENSE-noble-ed25519",)
SCRIPTS = (
    "sha2.js",
    "bytes.js",
    "msgpack.js",
    "json.js",
    "ed25519.js",
    "proofs.js",
    "genesis.js",
    "note.js",
    "wording.js",
    "epochs.js",
    "finality.js",
    "order.js",
    "changes.js",
    "waterfall.js",
    "together.js",
    "books.js",
    "related.js",
    "dossier.js",
    "states.js",
    "accountability.js",
    "verify.js",
    "ui.js",
)
"""In the order in which they build on each other."""

POLICY = (
    "default-src 'none'",
    "script-src '{script}'",
    "style-src '{style}'",
    "base-uri 'none'",
    "form-action 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)
"""Nothing is loaded, nothing is connected to, no text becomes code, and only these two blocks are
taken."""


def build_page() -> str:
    """The page, complete."""
    style, script = _read("style.css"), _script()
    policy = "; ".join(POLICY).format(script=_source_hash(script), style=_source_hash(style))
    licences = "\n\n".join(f"{LIBRARY}\n\n{_read(name)}" for name in LICENCES)
    page = _read("template.html")
    for name, text in (
        ("policy", policy),
        ("licences", escape(licences.strip(), quote=False)),
        ("style", style),
        ("script", script),
    ):
        before, found, after = page.partition("{{" + name + "}}")
        assert found, f"the template has no place for {name}"
        page = before + text + after
    return page


def _script() -> str:
    """All sources in one function: nothing of them is global but what `ui.js` names."""
    parts = ['"use strict";', "(() => {", _library(), f"const SCHEMA = {_schema()};"]
    parts += [f"// --- {name}\n{_read(name)}" for name in SCRIPTS]
    script = "\n".join([*parts, "})();", ""])
    assert "</script" not in script.lower(), "a source would end the script element"
    assert "<!--" not in script, "a source would open a comment in the script element"
    return script


def _library() -> str:
    """The library as an object, its own text unchanged but for the statement that exports it."""
    text, found, exported = _read(LIBRARY).rpartition("\nexport ")
    assert found, "the library exports nothing"
    return f"const noble = (() => {{\n{text}\nreturn {exported.strip()}\n}})();"


def _schema() -> str:
    return json.dumps(schema(), separators=(",", ":"), sort_keys=True)


def _source_hash(text: str) -> str:
    """How a content policy names an inline block."""
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
