"""Plain functions on arrays and the emitters behind them; nothing here knows of tensors.

Imported as ``tinygrad_ai.kernels``.
"""

#: The C library's name of a NumPy function where it is another one (float32 adds an ``f``).
C_NAMES = {
    "absolute": "fabs", "power": "pow", "arcsin": "asin", "arccos": "acos", "arctan": "atan",
    "arctan2": "atan2", "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh",
}  # fmt: skip
#: Functions that are called by that name on the CPU lane by lane, and in CUDA C.
C_FUNCTIONS = {
    "pow", "asin", "acos", "atan", "atan2", "asinh", "acosh", "atanh", "sinh", "cosh", "sin", "cos",
    "tan", "exp2", "log2", "log10", "cbrt", "hypot", "erf", "erfc", "fmod", "exp", "expm1", "log",
    "log1p", "tanh",
}  # fmt: skip
