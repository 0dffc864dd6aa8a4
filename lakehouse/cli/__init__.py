"""The terminal: commands, and how what they answer looks."""
