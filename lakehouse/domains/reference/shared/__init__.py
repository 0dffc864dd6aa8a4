"""What the sources of reference data share: identifiers, their conflicts, codes of countries and currencies."""
