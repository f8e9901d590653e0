"""Polynomials of the error functions, for arrays and for vector code alike.

Up to ½ erf is its Taylor series. Beyond, (x + 2)·exp(x²)·erfc(x) is a polynomial in 1 - 5/(x + 2),
after Shepherd and Laframboise ("Chebyshev approximation of (1 + 2x)exp(x²)erfc x in 0 ≤ x < ∞",
1981): interpolated at Chebyshev's nodes with 50 digits, and written in powers.
"""

import math

TAYLOR = [2 / math.sqrt(math.pi) * (-1) ** k / (math.factorial(k) * (2 * k + 1)) for k in range(13)]
# fmt: off
SINGLE = [
    0.895005771, -0.464300753, 0.161938407, -0.0259185124, -0.00551626998, 0.00301339968,
    0.000309701333, -0.000346366049, -2.98990903e-05, 3.41011337e-05,
]
DOUBLE = [
    0.8950057559069498, -0.46430074427237156, 0.1619391505322243, -0.025918946162162882,
    -0.005522382160849116, 0.0030169006460050818, 0.0003278920120605738,
    -0.00035635721104287585, -5.364634348437353e-05, 4.597433703904019e-05,
    1.3752969863727654e-05, -5.242631842455295e-06, -3.4010202729050805e-06,
    1.622495373622372e-07, 6.888516007426052e-07, 1.681597657815361e-07,
    -9.058913896419718e-08, -6.583479318062346e-08, -1.1699844910976503e-09,
    1.3602267128368203e-08, 3.6278427902222866e-09, -1.3496806469725467e-09,
    -6.017765731480546e-10,
]
# fmt: on
