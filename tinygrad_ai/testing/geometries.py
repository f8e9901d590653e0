"""Calls of the operations with parameters, chosen by hand so that no two axes, sizes or steps can
be taken for each other: what a record's own ``sample`` leaves out."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_ai.ops.index import ARRAY

ALL = slice(None)
_ID = np.array([[2, 0, -1], [1, 1, 2]])
_LABELS = np.array([[2, 0, -1], [1, 1, 2]])
_PLANE = {"stride": (2, 1), "padding": ((0, 1), (2, 0)), "dilation": (1, 2), "groups": 1}
_LINE = {"stride": (1,), "padding": ((0, 0),), "dilation": (1,), "groups": 3}

#: Name of a record -> calls: inputs (a shape stands for random numbers) and parameters.
CALLS: dict[str, tuple[tuple[tuple[Any, ...], dict[str, Any]], ...]] = {
    "argsort": ((((3, 4),), {"axis": 0}),),
    "broadcast_to": ((((2, 1, 3),), {"shape": (2, 4, 3)}),),
    "concatenate": ((((2, 3), (1, 3)), {"axis": 0}), (((2,), (3,), (1,)), {"axis": 0})),
    "conv": ((((2, 3, 5, 4), (2, 3, 2, 2)), _PLANE), (((1, 3, 4), (6, 1, 2)), _LINE)),
    "conv_input_grad": (
        (((2, 2, 3, 4), (2, 3, 2, 2)), {"shape": (5, 4), **_PLANE}),
        (((1, 6, 3), (6, 1, 2)), {"shape": (4,), **_LINE}),
    ),
    "conv_weight_grad": (
        (((2, 3, 5, 4), (2, 2, 3, 4)), {"kernel": (2, 2), **_PLANE}),
        (((1, 3, 4), (1, 6, 3)), {"kernel": (2,), **_LINE}),
    ),
    "cofactor": ((((3, 3),), {}), (((2, 2),), {})),
    "cross_entropy": (
        (((2, 3, 4), _LABELS), {"ignore": -1}),
        (((2, 4), np.array([3, -100])), {"ignore": -100}),
    ),
    "cumprod": ((((4, 2),), {"axis": 0}), (((2, 5, 3),), {"axis": 1})),
    "cumsum": ((((4, 2),), {"axis": 0}), (((2, 5, 3),), {"axis": 1})),
    "det": ((((3, 3),), {}),),
    "einsum": (
        (((2, 3), (3, 4)), {"spec": "ij,jk->ik"}),
        (((2, 3), (2, 3)), {"spec": "ij,ij->"}),
        (((2, 3), (2, 3)), {"spec": "ij,ij->ji"}),
        (((2,), (3,)), {"spec": "i,j->ij"}),
        (((2, 3, 4), (4, 5)), {"spec": "abc,cd->dab"}),
        (((2, 3, 4), (2, 4)), {"spec": "bij,bj->ib"}),
    ),
    "flip": ((((2, 3),), {"axis": (1,)}), (((2, 3),), {"axis": (0, 1)})),
    "index": (
        (((4, 3), _ID), {"spec": (ALL, ARRAY)}),
        (((4, 3), np.array([3, 0, 3]), np.array([1, 2, 1])), {"spec": (ARRAY, ARRAY)}),
    ),
    "linear": ((((5, 2), (3, 2)), {}),),
    "matmul": ((((3, 2), (2, 5)), {}), (((2, 1, 3, 2), (4, 2, 5)), {})),
    "minors": ((((3, 3),), {}), (((1, 1),), {})),
    "overlap_add": (
        (((2, 2, 3),), {"shape": (6,), "stride": (2,), "dilation": (1,)}),
        (((3, 2, 3, 3, 3),), {"shape": (6, 7), "stride": (2, 1), "dilation": (1, 2)}),
    ),
    "pad": ((((2, 3),), {"widths": ((0, 2), (3, 1))}),),
    "permute": ((((2, 3, 4),), {"axes": (1, 2, 0)}), (((2, 3, 4),), {"axes": (2, 0, 1)})),
    "prod": (
        (((3, 2),), {"axis": (0,), "keepdims": True}),
        (((2, 3, 4),), {"axis": (1,), "keepdims": False}),
        ((np.array([[2.0, 0.0], [3.0, 4.0], [5.0, 6.0]]),), {"axis": (0,), "keepdims": False}),
    ),
    "reshape": ((((2, 3),), {"shape": (3, 2)}), (((2, 3, 2),), {"shape": (4, 3)})),
    "scatter": (
        (((4, 2, 3), _ID), {"spec": (ALL, ARRAY), "shape": (4, 3)}),
        (
            ((3,), np.array([3, 0, 3]), np.array([1, 2, 1])),
            {"spec": (ARRAY, ARRAY), "shape": (4, 3)},
        ),
    ),
    "slice": (
        (((5, 4),), {"key": (slice(1, 4, 2), None, slice(None, None, -1))}),
        (((3, 4),), {"key": (ALL, -2)}),
    ),
    "sort": ((((3, 2, 2),), {"axis": 0}), (((2, 4, 2),), {"axis": 1})),
    "argbest": (
        (((3, 4),), {"k": 2, "axis": 0, "largest": False}),
        (((5, 2),), {"k": 3, "axis": 0, "largest": True}),
        (((2, 3),), {"k": 0, "axis": 1, "largest": True}),
        (((2, 3),), {"k": 3, "axis": 1, "largest": True}),
    ),
    "softmax": ((((2, 3, 4),), {"axis": 1}), (((5,),), {"axis": 0})),
    "log_softmax": ((((2, 3, 4),), {"axis": 1}), (((5,),), {"axis": 0})),
    "softmax_minus_one_hot": ((((2, 3, 4), _LABELS), {"ignore": -1}),),
    "take": ((((4, 3), _ID), {"axis": 1}), (((4, 3), np.array([3, -4, 3])), {"axis": 0})),
    "tril": ((((2, 4, 3),), {"k": -2}), (((3, 4),), {"k": 1})),
    "triu": ((((2, 4, 3),), {"k": -1}), (((3, 4),), {"k": 2})),
    "standardize": ((((2, 3, 4),), {"axis": (0, 2), "eps": 0.01}),),
    "unit_rms": (
        (((2, 3, 4),), {"axis": (0, 2), "eps": 0.01}),
        (((2, 3),), {"axis": (), "eps": 0.5}),
    ),
    "unslice": (
        (((2, 1, 4),), {"key": (slice(1, 4, 2), None, slice(None, None, -1)), "shape": (5, 4)}),
    ),
    "windows": (
        (((2, 7),), {"kernel": (2,), "stride": (1,), "dilation": (3,)}),
        (((2, 6, 7),), {"kernel": (2, 3), "stride": (2, 1), "dilation": (1, 2)}),
    ),
}  # fmt: skip


def geometry_calls(name: str, rng: np.random.Generator) -> list[tuple[list[Any], dict[str, Any]]]:
    """The calls of an operation, with numbers in place of shapes."""
    return [
        ([rng.standard_normal(x) if isinstance(x, tuple) else x for x in inputs], params)
        for inputs, params in CALLS.get(name, ())
    ]
