"""From rows to findings: what is compared, how sure it is, and what may be said. No torch."""
