"""Servers that Lakehouse runs or uses: PostgreSQL, embedded or the user's own, and its migrations.

Belongs here: starting, sharing and stopping a server, and bringing a schema up to date. What is in a schema belongs to
its domain. Nothing here knows a domain or reads settings.
"""
