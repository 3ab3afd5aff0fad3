"""Oblivious HTTP: a request that one node carries and another reads (RFC 9458, RFC 9292)."""
