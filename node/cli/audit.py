"""`nostro audit`: its commands stand in modules of their own."""

from __future__ import annotations

from typing import Any

from node.cli import audit_chain, audit_checkpoint, audit_export, audit_follow, audit_fork


def register(subparsers: Any) -> None:
    """Add this module's command to the parser."""
    audit = subparsers.add_parser("audit", help="check a whole chain, or prove a fork")
    commands = audit.add_subparsers(metavar="COMMAND", required=True)
    for module in (audit_chain, audit_checkpoint, audit_export, audit_follow, audit_fork):
        module.register(commands)
