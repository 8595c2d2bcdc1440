"""Payment sources."""
