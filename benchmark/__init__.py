"""The benchmark: protocol, runner, metrics, results, statistics, tables and report."""
