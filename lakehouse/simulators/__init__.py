"""Vendors played on loopback, for the demo and the tests.

A simulator writes what its vendor would send, faults included, and tells afterwards what a correct lake makes
of it. It shares no code with the readers of that format: agreement between the two is evidence, not a
tautology.
"""
