"""The market domain, pure: relations or frames in, relations or frames out. No Dagster, no files, no network."""
