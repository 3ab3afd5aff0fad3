"""Who may do what: a pure fold over the logs (design 4.2).

`admission` says which mediators count and where, `subjects` joins what was said of one subject,
`vouched` keeps devices, closes and forks, `mediator` folds one mediator's logs, `fold` holds it all
together, `find` answers questions at a time.
"""
