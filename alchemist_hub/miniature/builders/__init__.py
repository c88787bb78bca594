"""How the miniature's models are made: one module a model, each resumable, each from a recorded seed."""
