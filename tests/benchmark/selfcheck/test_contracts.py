import importlib.util

import pytest

from benchmark.selfcheck.contracts import CONTRACTS, Contract, contract_rows, contract_table


@pytest.fixture(scope="module")
def rows():
    """All contracts, measured once."""
    return contract_rows()


def test_contract_rows_are_all_met_where_their_tools_are_there(rows):
    for contract, row in zip(CONTRACTS, rows, strict=True):
        there = all(importlib.util.find_spec(name) is not None for name in contract.needs)
        assert row.met is (True if there else None), row


def test_contract_rows_measure_something(rows):
    measured = [row.difference for row in rows if row.difference is not None]
    assert len(measured) >= 6
    # Different algorithms cannot agree to the last bit everywhere.
    assert sum(difference > 0 for difference in measured) >= 4


def test_contract_rows_are_the_same_every_time():
    cheap = [c for c in CONTRACTS if c.metric in ("FD", "density, coverage")]
    assert contract_rows(cheap) == contract_rows(cheap)


def test_contract_row_says_broken_missing_and_failed():
    def fails():
        raise TypeError("sqrtm() got an unexpected keyword argument 'disp'\nmore")

    broken, missing, failed = contract_rows(
        [
            Contract("a", "b", 1e-6, "relative", lambda: 2e-6),
            Contract("a", "b", 1e-6, "relative", lambda: 0.0, needs=("no_such_package",)),
            Contract("a", "b", 1e-6, "relative", fails),
        ]
    )
    assert (broken.met, broken.difference) == (False, 2e-6)
    assert (missing.met, missing.difference) == (None, None)
    assert missing.note == "not run: no_such_package missing"
    assert failed.met is False
    assert failed.note == ("failed: TypeError: sqrtm() got an unexpected keyword argument 'disp'")


def test_contract_table_shows_every_row_in_aligned_columns():
    contracts = [
        Contract("KID", "a tool", 1e-9, "relative", lambda: 2.5e-13),
        Contract("precision, recall", "another tool", 1e-6, "absolute", lambda: 0.5),
        Contract("IS", "a third", 1e-6, "absolute", lambda: 0.5, needs=("no_such_package",)),
    ]
    lines = contract_table(contract_rows(contracts)).splitlines()
    assert len(lines) == 5
    assert len({len(line) for line in lines}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[2] == ["KID", "a tool", "2.5e-13", "1e-09", "relative", "yes"]
    assert cells[3][-1] == "NO"
    assert cells[4][2:] == ["", "1e-06", "absolute", "not run: no_such_package missing"]


def test_docs_show_every_contract(repository):
    page = (repository / "docs" / "metrics.md").read_text()
    for contract in CONTRACTS:
        assert any(
            contract.metric in line and contract.against in line for line in page.splitlines()
        ), contract
