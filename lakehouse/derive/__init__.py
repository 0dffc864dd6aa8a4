"""Raw to derived: which revision of a row counts, what differs from what is stored, and whether every row is accounted
for.
"""
