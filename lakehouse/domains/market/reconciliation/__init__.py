"""Daily bars held against a second, independent series."""
