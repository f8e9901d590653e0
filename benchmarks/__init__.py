"""Measurements. Speed is checked here and never in a test; figures are ratios side by side."""
