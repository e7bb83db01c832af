"""verify.html: a second, independent verifier, that runs from disk in any browser.

`python -m node.audit.page` puts it together from the sources beside this file.
"""
