"""Test vectors: data files only; each says where it is from."""
