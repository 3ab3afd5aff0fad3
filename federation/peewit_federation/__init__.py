"""What all parties of a Peewit federation must agree on: formats and rules, and nothing else.

Everything here is pure: bytes and `now` go in, values come out. No socket, no event loop, no
clock, no database, and no randomness that was not handed in. `node/`, `clients/` and
`simulation/` import this package; it imports none of them.
"""
