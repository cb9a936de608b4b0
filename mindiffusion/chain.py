"""What two networks must share to denoise one image in turns."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Chain:
    """The noise levels of a process. How a network was trained and is read is its own affair.

    Attributes:
        betas: (β₁, β₂) of the linear schedule.
        n_T: number of noise levels.
    """

    betas: tuple[float, float]
    n_T: int

    def __str__(self) -> str:
        return f"betas {self.betas}, n_T {self.n_T}"
