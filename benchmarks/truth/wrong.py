"""WRONG: every backward of the corpus that a gradient checker must find."""

from .case import Case
from .wrong_calling import BROADCASTING, CALLING
from .wrong_conv import CONVOLUTION
from .wrong_elementwise import ELEMENTWISE
from .wrong_index import MOVEMENT
from .wrong_linalg import LINALG
from .wrong_losses import LOSSES
from .wrong_nn import NEURAL
from .wrong_reduce import REDUCTIONS

WRONG: tuple[Case, ...] = (
    *ELEMENTWISE,
    *CALLING,
    *BROADCASTING,
    *REDUCTIONS,
    *LINALG,
    *MOVEMENT,
    *CONVOLUTION,
    *NEURAL,
    *LOSSES,
)
