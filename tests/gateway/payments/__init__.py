"""Tests of gateway/payments."""
