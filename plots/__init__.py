"""Figures of a study: rows in, matplotlib axes out; never imports torch."""
