"""Banks at the desk, over real sockets and on both databases."""
