"""What leaves the lake for people: the catalogue, lineage, contracts, the quality over time, and who may see what."""
