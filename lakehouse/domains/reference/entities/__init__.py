"""Legal entities by their identifiers (LEI, ISO 17442): who they are, who owns them, and why a parent is not said."""
