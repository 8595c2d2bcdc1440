"""Speed figures of the whole gateway, and beside them what the bare database drivers make of the same rows.

`python -m tests.bench` (`__main__.py`); `service.py` runs the gateway as a process of its own, `load.py` is the
message centre with its phones, `raw.py` writes a run's rows again without us, `parts.py` times single parts.
"""
