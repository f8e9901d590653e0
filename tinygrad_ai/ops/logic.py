"""Comparisons and logic: true or false, without gradients."""

from __future__ import annotations

from tinygrad_ai.autodiff import elementwise

NO_SLOPE = "true or false: there is no slope to follow"
equal = elementwise("equal", lambda xp, a, b: a == b, why=NO_SLOPE)
not_equal = elementwise("not_equal", lambda xp, a, b: a != b, why=NO_SLOPE)
less = elementwise("less", lambda xp, a, b: a < b, why=NO_SLOPE)
less_equal = elementwise("less_equal", lambda xp, a, b: a <= b, why=NO_SLOPE)
greater = elementwise("greater", lambda xp, a, b: a > b, why=NO_SLOPE)
greater_equal = elementwise("greater_equal", lambda xp, a, b: a >= b, why=NO_SLOPE)
logical_and = elementwise("logical_and", lambda xp, a, b: xp.logical_and(a, b), why=NO_SLOPE)
logical_or = elementwise("logical_or", lambda xp, a, b: xp.logical_or(a, b), why=NO_SLOPE)
logical_xor = elementwise("logical_xor", lambda xp, a, b: xp.logical_xor(a, b), why=NO_SLOPE)
logical_not = elementwise("logical_not", lambda xp, x: xp.logical_not(x), why=NO_SLOPE)
bitwise_and = elementwise("bitwise_and", lambda xp, a, b: a & b, why=NO_SLOPE)
bitwise_or = elementwise("bitwise_or", lambda xp, a, b: a | b, why=NO_SLOPE)
bitwise_xor = elementwise("bitwise_xor", lambda xp, a, b: a ^ b, why=NO_SLOPE)
bitwise_not = elementwise("bitwise_not", lambda xp, x: ~x, why=NO_SLOPE)
isnan = elementwise("isnan", lambda xp, x: xp.isnan(x), why=NO_SLOPE)
isinf = elementwise("isinf", lambda xp, x: xp.isinf(x), why=NO_SLOPE)
isfinite = elementwise("isfinite", lambda xp, x: xp.isfinite(x), why=NO_SLOPE)
