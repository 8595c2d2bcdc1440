"""The command line by topic, as it is typed."""
