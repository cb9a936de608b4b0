"""The benchmark: studies, rows, evaluation, analysis, reports, and who runs them."""
