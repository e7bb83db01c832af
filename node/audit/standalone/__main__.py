"""Where the archive starts. Even an old Python must be able to read this file."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 — an installer checks; here nobody has
    sys.exit("nostro-verify: needs Python 3.11 or newer, this is " + sys.version.split()[0])

from node.audit.standalone.app import run

run()
