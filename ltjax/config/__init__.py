"""What a config says: its fields, and choices by name."""
