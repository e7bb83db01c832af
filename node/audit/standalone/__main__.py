"""Where the archive starts. Even an old Python must be able to read this file."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 — an installer checks; here nobody has
    sys.stderr.write(
        "nostro-verify: needs Python 3.11 or newer, not " + sys.version.split()[0] + "\n"
    )
    sys.exit(64)  # not 1, which says of the evidence that it is invalid

from node.audit.standalone.app import run

run()
