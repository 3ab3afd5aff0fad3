"""What a node does for admission and the draw: it makes and hands over keys, admits, and gives proofs."""
