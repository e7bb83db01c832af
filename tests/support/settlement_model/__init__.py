"""The settlement rules once more, slow and obvious, to hold the ledger against.

Written from the rules, not from the ledger: nothing is shared with it but the message types.
Everything is a plain dict of rows that are replaced, never changed; what can be computed from
other rows (reserved amounts, lines, what is used of a limit, positions) is, every time it is
asked for. An instruction is played on the book itself and, if it is refused, the book is set
back to the copy that was made before: so a rejection changes nothing, by construction.

`rows` and `book` are the tables, `telling` what is said about payments, `entry` how they come in,
`queue` how they wait and what resolution settles; the other modules are an instruction family each,
`block` is the order of it all and `records` the state records that must follow.
"""
