"""Tests of the STS package: published vectors, properties, a simulated meter through random histories."""
