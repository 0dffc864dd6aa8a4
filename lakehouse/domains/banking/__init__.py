"""Bank accounts: a relational system on PostgreSQL, and its equal in the lake."""
