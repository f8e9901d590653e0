"""The functions of :mod:`tinygrad_ai.functional` under the name that PyTorch has for them."""

from tinygrad_ai.functional import *  # noqa: F403
from tinygrad_ai.functional import __all__  # noqa: F401
