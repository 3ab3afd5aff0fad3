"""The people's side: a pool of nodes, a view of the registry, and one class per role.

`pool` talks to nodes, `follower` and `registry_view` make of their answers what may be believed, `mediator`
publishes, `cli` is the command line. Nothing here trusts a node.
"""
