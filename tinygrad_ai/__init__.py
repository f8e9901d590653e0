"""tinygrad_ai: a small reverse-mode autodiff tensor library.

``import tinygrad_ai as ta``: tensors and NumPy-named functions at the top, derivatives of
functions beside them, ``ta.nn``, ``ta.optim``, ``ta.data`` and ``ta.Trainer`` to train networks.
"""

from pathlib import Path

from tinygrad_ai import data, errors, metrics, nn, optim, random, train
from tinygrad_ai.autodiff import enable_grad, no_grad
from tinygrad_ai.backend import register_backend
from tinygrad_ai.creation import (
    arange,
    asarray,
    empty,
    eye,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    zeros,
    zeros_like,
)
from tinygrad_ai.dtypes import (
    bool_,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
from tinygrad_ai.io import load, save
from tinygrad_ai.ops import linalg
from tinygrad_ai.ops.einsum import einsum
from tinygrad_ai.ops.elementwise import (
    absolute,
    add,
    ceil,
    divide,
    exp,
    expm1,
    floor,
    floor_divide,
    log,
    log1p,
    maximum,
    minimum,
    multiply,
    negative,
    positive,
    power,
    reciprocal,
    relu,
    remainder,
    round,
    sigmoid,
    sign,
    sqrt,
    square,
    subtract,
    tanh,
    trunc,
    where,
)
from tinygrad_ai.ops.elementwise import clip_between as clip
from tinygrad_ai.ops.index import (
    argsort,
    diag,
    diagonal,
    gather,
    index_select,
    masked_fill,
    median,
    nonzero,
    repeat,
    scatter_add,
    sort,
    take,
    take_along_axis,
    topk,
)
from tinygrad_ai.ops.logic import (
    equal,
    greater,
    greater_equal,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    not_equal,
)
from tinygrad_ai.ops.movement import (
    broadcast_to,
    concatenate,
    expand_dims,
    flatten,
    flip,
    moveaxis,
    pad,
    permute_dims,
    reshape,
    roll,
    split,
    squeeze,
    stack,
    swapaxes,
    tile,
    transpose,
    tril,
    triu,
    unstack,
)
from tinygrad_ai.ops.products import dot, matmul, outer, tensordot, trace, vecdot
from tinygrad_ai.ops.reduce import (
    all,
    amax,
    amin,
    any,
    argmax,
    argmin,
    cumprod,
    cumsum,
    logsumexp,
    mean,
    norm,
    prod,
    std,
    sum,
    var,
)
from tinygrad_ai.ops.special import (
    cbrt,
    erf,
    erfc,
    exp2,
    hypot,
    log2,
    log10,
    logaddexp,
    logsigmoid,
    rsqrt,
    softplus,
    xlogy,
)
from tinygrad_ai.ops.trigonometry import (
    arccos,
    arccosh,
    arcsin,
    arcsinh,
    arctan,
    arctan2,
    arctanh,
    cos,
    cosh,
    sin,
    sinc,
    sinh,
    tan,
)
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.train import Trainer
from tinygrad_ai.transforms import (
    checkpoint,
    custom_vjp,
    detect_anomaly,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    stop_gradient,
    value_and_grad,
    vjp,
    vmap,
)

# Installed, the kernels stand inside the package; in a checkout they stand beside it.
_beside = Path(__file__).parent.parent
if not (Path(__file__).parent / "kernels").is_dir() and (_beside / "kernels").is_dir():
    __path__.append(str(_beside))

abs = absolute
max = amax
min = amin

__version__ = "0.1.0"
