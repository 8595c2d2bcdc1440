"""The outside world as the tests want it: time, ids and chance from a seed, modules with faults."""
