"""Blind votes of visitors: what is voted on, where votes are kept, where they stand, and their way to the Hub."""
