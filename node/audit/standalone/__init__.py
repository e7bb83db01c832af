"""The verifier as one file that any Python runs: what goes into it, and what stands in there for
the two libraries that `nostro verify` uses.

The archive holds the verifier's own modules unchanged. Beside them stand `msgspec` and `nacl`, a
few hundred lines of pure Python each under the names of the libraries, with no more than the
verifier uses of them. Tests hold both to the libraries themselves.
"""
