"""Fit the network of the stage `defects`: `fit.fit_defects` is the way in."""
