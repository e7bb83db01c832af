"""`python -m node.cli`: the `nostro` command without its entry point."""

from node.cli.main import run

run()
