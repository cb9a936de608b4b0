"""All that is made of a study's rows: tables, figures, the parts of a paper, the report.

No torch: a reviewer rebuilds it on a laptop, byte by byte.
"""

from collections import Counter
from pathlib import Path

from benchmark.analysis.answer import study_answer
from benchmark.reporting.page import write_report
from benchmark.reporting.paper import write_paper
from benchmark.reporting.tables.build import write_tables
from benchmark.rows.file import ROWS_FILE, rows_files


def write_outcome(study_dir: Path) -> list[Path]:
    """Write ``tables/``, ``figures/``, ``paper/`` and ``report.html`` of a study's folder.

    Raises:
        UserError: the study has no rows, or rows that contradict each other.
    """
    # Inside, so that whoever imports the benchmark need not load matplotlib.
    from plots.build import write_figures

    tables, figures = write_tables(study_dir), write_figures(study_dir)
    # The paper and the report show the figures that are there.
    return [*tables, *figures, *write_paper(study_dir), write_report(study_dir)]


def tell(study_dir: Path, written: list[Path]) -> str:
    """What there is now, and the answer: lines for whoever ran the command."""
    places = Counter(path.relative_to(study_dir).parts[0] for path in written)
    rows = ", ".join(path.name for path in rows_files(study_dir / ROWS_FILE))
    files = ", ".join(f"{place}/ ({count} files)" for place, count in places.items() if count > 1)
    return f"{study_dir}: {rows}, {files}\n{study_answer(study_dir)}\nOpen {written[-1]}"
