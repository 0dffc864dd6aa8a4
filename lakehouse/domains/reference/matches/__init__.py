"""PermIDs of legal entities, by record matching: a CSV of records in, references out."""
