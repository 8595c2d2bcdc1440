"""Tests of channels/smpp/: pure parts by tables and properties, shells on real sockets of this machine."""
