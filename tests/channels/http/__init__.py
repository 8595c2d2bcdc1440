"""Callbacks over HTTP."""
