"""Derives tables from raw ones: picks the revision of a row that counts, writes what differs from the stored table, and
accounts for every row.
"""
