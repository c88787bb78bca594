"""One training loop for every model: objective, cached encodings, exact resume."""
