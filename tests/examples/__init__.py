"""Conversations as text, with their recorded answers; tests run them again."""
