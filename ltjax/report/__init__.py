"""One run on paper."""
