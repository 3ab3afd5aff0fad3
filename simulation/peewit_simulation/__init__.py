"""A world in one process: the real nodes and clients on a simulated kernel, with faults, the same for the same seed.

`kernel` is time, links, TCP, sockets, loops, hosts and disks. `federation` boots nodes on it, `faults` breaks
them, `actors` are the people and the liars, `checkers` say what must hold. Nothing here is part of a node.
"""
