"""Transparency logs in the public formats of C2SP, byte for byte, over RFC 6962 Merkle trees.

`note` and `checkpoint` are what is signed, `merkle` the tree, `tiles` its static files, `proofs`
how proofs are made from tiles, `proof_file` a proof that travels alone, `policy` whose cosignatures
suffice, `follow` how a log is mirrored and verified without doing any I/O.
"""
