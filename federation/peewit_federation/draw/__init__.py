"""The draw: one place in the queue per admission, unlinkable, and not for sale (design 4.5).

Blind signatures (`blind_rsa`) admit without seeing who, a verifiable random function (`vrf`) under the keys of a
committee (`tickets`) gives everybody the same unpredictable priority, and `hashes` names what is admitted.
"""
