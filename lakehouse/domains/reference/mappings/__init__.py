"""Mappings of other identifiers to legal entities: ISIN and BIC."""
