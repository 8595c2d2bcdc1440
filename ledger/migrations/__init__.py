"""Schema history, one file a version in versions/; run by `prepaid migrate` through ledger/schema.py."""
