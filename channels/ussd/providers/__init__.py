"""One file a provider: its callback to a step, its screen to an answer. `channels/ussd/registry.py` lists them."""
