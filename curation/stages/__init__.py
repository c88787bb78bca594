"""The judges: stages score samples one at a time, reductions judge the whole set at once."""
