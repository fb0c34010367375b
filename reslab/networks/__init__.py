"""Networks by name, and what they measure."""
