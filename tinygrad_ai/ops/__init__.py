"""The operations. :data:`PRIMITIVES` lists every record of the rooms below, by name."""

from tinygrad_ai.autodiff import Primitive
from tinygrad_ai.ops import (
    activations,
    conv,
    einsum,
    elementwise,
    index,
    linalg,
    logic,
    movement,
    normalize,
    norms,
    pool,
    products,
    reduce,
    scan,
    softmax,
    special,
    transfer,
    triangles,
    trigonometry,
)

_ROOMS = (
    elementwise,
    special,
    trigonometry,
    logic,
    activations,
    reduce,
    norms,
    scan,
    softmax,
    normalize,
    movement,
    triangles,
    index,
    products,
    einsum,
    linalg,
    conv,
    pool,
    transfer,
)
PRIMITIVES: dict[str, Primitive] = {
    record.name: record
    for room in _ROOMS
    for record in vars(room).values()
    if isinstance(record, Primitive)
}
