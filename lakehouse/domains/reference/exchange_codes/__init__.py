"""Exchange codes of an identifier's issuer, and the markets (MIC) that they mean."""
