import numpy as np
import pytest
import torch

from mindiffusion.errors import UserError
from mindiffusion.schedules import linear_tables


@pytest.mark.parametrize("betas_and_levels", [(1e-4, 0.02, 1000), (1e-3, 0.3, 7), (0.1, 0.1, 2)])
def test_linear_tables_equal_the_closed_forms(betas_and_levels):
    beta1, beta2, n_T = betas_and_levels
    tables = linear_tables(*betas_and_levels)
    beta = np.linspace(beta1, beta2, n_T + 1)
    alpha_bar = np.exp(np.cumsum(np.log1p(-beta)))
    expected = {
        "beta": beta,
        "alpha_bar": alpha_bar,
    }
    for name, values in expected.items():
        table = getattr(tables, name)
        assert table.dtype == torch.float64 and table.shape == (n_T + 1,)
        np.testing.assert_allclose(table.numpy(), values, rtol=1e-10)


def test_linear_tables_count_index_zero_into_the_product():
    tables = linear_tables(1e-4, 0.02, 1000)
    assert float(tables.beta[0]) == 1e-4 and float(tables.beta[-1]) == pytest.approx(0.02)
    # Without β₀ the lowest trained level would have σ = √β₁ = .01095.
    assert round(float(1 - tables.alpha_bar[1]) ** 0.5, 4) == 0.0148
    assert float(tables.alpha_bar[0]) == pytest.approx(1 - 1e-4, rel=1e-15)


def test_linear_tables_leave_almost_no_signal_at_the_last_level():
    assert 3e-5 < float(linear_tables(1e-4, 0.02, 1000).alpha_bar[-1]) < 5e-5


@pytest.mark.parametrize(
    ("beta1", "beta2", "n_T"),
    [
        (0.0, 0.02, 10),
        (-1e-4, 0.02, 10),
        (0.02, 1e-4, 10),
        (1e-4, 1.0, 10),
        (float("nan"), 0.02, 10),
        (1e-4, 0.02, 1),
    ],
)
def test_linear_tables_refuse_bad_betas_and_lengths(beta1, beta2, n_T):
    with pytest.raises(UserError, match="need 0 < beta1 <= beta2 < 1 and n_T >= 2") as error:
        linear_tables(beta1, beta2, n_T)
    assert "\n" not in str(error.value) and str(beta2) in str(error.value)
