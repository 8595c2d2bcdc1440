"""SMS over Africa's Talking.

api.py        P  what its answers and callbacks mean, a table of its status codes
link.py       S  one account: texts go out through its package, in threads
callbacks.py  S  texts, delivery reports and opt-outs that come in by HTTP
simulator.py  S  the API with phones behind it, for trying a gateway out, with faults on purpose
"""
