"""Showing what the library does: formulas from the rules themselves."""
