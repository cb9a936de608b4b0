"""The report of a study: one HTML file, from its rows, tables, figures and sample strips alone.

It opens from disk, asks no network for anything and needs no torch. Its order is a reader's: the
answer, whether the instrument can be trusted, each claim with its verdict, then all the material.
"""

from benchmark.reporting.page.build import write_report

__all__ = ["write_report"]
