"""Africa's Talking: what it says by table, and the account, callbacks and simulator over real HTTP."""
