"""From one identifier to another: `resolve` one, `crosswalk` many."""
