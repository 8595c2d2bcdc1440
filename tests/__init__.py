"""Tests: folders mirror the packages; simulation is the outside world, vectors are facts with their origin."""
