"""The painters of the miniature world; `render.py` calls them in their order."""
