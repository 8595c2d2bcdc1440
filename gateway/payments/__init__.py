"""Where the money of an order comes from: payment sources behind one contract, a file each.

contract.py  what a source must be able to do, and the events in which it speaks; pure
"""
