"""CORRECT: every function of the corpus at which a gradient checker must raise no alarm."""

from .case import Case
from .correct_arrays import MATRICES, REDUCED
from .correct_kinks import AT_KINKS, NEAR_KINKS
from .correct_layers import LAYERS, SINGLE
from .correct_scalar import FAST_AND_FAR, FLAT, STEEP

CORRECT: tuple[Case, ...] = (
    *AT_KINKS,
    *NEAR_KINKS,
    *STEEP,
    *FLAT,
    *FAST_AND_FAR,
    *REDUCED,
    *MATRICES,
    *LAYERS,
    *SINGLE,
)
