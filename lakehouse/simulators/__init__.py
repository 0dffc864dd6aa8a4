"""Vendors played on loopback, for the demo and the tests.

A simulator writes what its vendor would send, including faults, and returns what a correct lake makes of it. It shares
no code with the readers of that format, so that agreement between the two is evidence.
"""
