"""What two networks must share to denoise one image in turns."""

from dataclasses import dataclass

from mindiffusion.errors import UserError


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


def refuse_other_chain(first: Chain, second: Chain) -> None:
    """Refuse two networks that cannot denoise one image in turns.

    Raises:
        UserError: their noise levels differ.
    """
    if first != second:
        raise UserError(
            f"networks of two chains ({first}; {second}) cannot sample together; give two runs "
            "with the same process.beta1, process.beta2 and process.n_T."
        )
