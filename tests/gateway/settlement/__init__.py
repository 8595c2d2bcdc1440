"""Tests of gateway/settlement."""
