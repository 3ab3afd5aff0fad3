"""What nodes tell each other, and what they may conclude from it (design 4.3).

`heads` judges a head against what is held, `views` are signed statements of everything a node has,
`feed` is the push-pull exchange. Fork evidence is in `statements.carried`.
"""
