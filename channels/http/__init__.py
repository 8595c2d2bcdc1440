"""Callbacks of providers over HTTP, for whatever channel wants them.

callback.py  a callback and its answer, as plain values; strict reading of form, query and JSON; pure
server.py    the HTTP server: limits, addresses, secrets; hands callbacks to their handlers
"""
