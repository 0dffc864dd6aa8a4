"""Markets and their identification codes (MIC, ISO 10383)."""
