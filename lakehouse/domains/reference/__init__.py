"""Reference data: legal entities, markets, and the identifiers that tie them to instruments."""
