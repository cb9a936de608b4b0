"""All that is made of a study's rows: tables, figures, the parts of a paper, the report.

No torch: a reviewer rebuilds it on a laptop, byte by byte.
"""

from collections import Counter
from pathlib import Path

from benchmark.analysis.answer import headline
from benchmark.analysis.study_analysis import StudyAnalysis
from benchmark.reporting.page import write_report
from benchmark.reporting.paper import write_paper
from benchmark.reporting.tables.build import study_tables, write_tables
from benchmark.rows.file import ROWS_FILE, rows_files


def write_outcome(study: StudyAnalysis, study_dir: Path) -> str:
    """Write ``tables/``, ``figures/``, ``paper/`` and ``report.html`` of a study's folder.

    Returns:
        What there is now, and the answer: lines for whoever ran the command.
    """
    # Inside, so that whoever imports the benchmark need not load matplotlib.
    from plots.build import write_figures

    built = study_tables(study)
    written = [*write_tables(built, study_dir), *write_figures(study, study_dir)]
    # The paper and the report show the figures that are there.
    written += write_paper(study, built, study_dir)
    report = write_report(study, built, study_dir)
    places = Counter(path.relative_to(study_dir).parts[0] for path in written)
    rows = ", ".join(path.name for path in rows_files(study_dir / ROWS_FILE))
    files = ", ".join(f"{place}/ ({count} files)" for place, count in places.items() if count > 1)
    return f"{study_dir}: {rows}, {files}\n{headline(study)}\nOpen {report}"
