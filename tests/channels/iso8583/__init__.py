"""Tests of the ISO 8583 channel's pure half."""
