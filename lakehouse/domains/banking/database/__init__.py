"""The bank's database: its schema as SQL files, and what calls its functions.

The rules are in the database (`sql/`), where they hold for every writer. Here belongs what a client does: making
requests and their keys, retrying what is safe to retry, reading files, and reporting.
"""
