"""One region's backend: mirrors logs, cosigns and gossips heads, serves files and answers.

`node` puts the parts together; `config` says what an operator can set. Storage is behind `engine`.
"""
