"""Convolution and pooling layers, channels first: (N, C, L) and (N, C, H, W)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from tinygrad_ai import functional as F
from tinygrad_ai.errors import ValueRangeError
from tinygrad_ai.nn.linear import uniform_parameter
from tinygrad_ai.nn.module import Module
from tinygrad_ai.ops.shapes import shape_tuple

Size = int | Sequence[int]


def _sizes(value: Size, rank: int, name: str = "padding", least: int = 0) -> tuple[int, ...]:
    """``value`` for each of ``rank`` axes; ValueRangeError if one is smaller than ``least``."""
    found = shape_tuple(value)
    found = found if isinstance(value, list | tuple) else found * rank
    if len(found) != rank or min(found) < least:
        raise ValueRangeError(
            f"{name} must be {rank} integers of at least {least}, or one for all, got {value!r}"
        )
    return found


class _Conv(Module):
    """What the convolutions share: channels, geometry, and uniform starts in ±1/√fan_in."""

    rank: ClassVar[int]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        if padding_mode != "zeros":
            raise NotImplementedError(
                f"{type(self).__name__}: padding_mode {padding_mode!r} is not supported; 'zeros' is"
            )
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueRangeError(
                f"{type(self).__name__}: groups={groups} must divide in_channels={in_channels} and "
                f"out_channels={out_channels}"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _sizes(kernel_size, self.rank, "kernel_size", 1)
        self.stride = _sizes(stride, self.rank, "stride", 1)
        self.padding = self._border(padding)
        self.dilation = _sizes(dilation, self.rank, "dilation", 1)
        self.groups = groups
        shape = (*self._channels(), *self.kernel_size)
        fan_in = math.prod(shape[1:])
        self.weight = uniform_parameter(shape, fan_in, dtype, device)
        self.bias = uniform_parameter((out_channels,), fan_in, dtype, device) if bias else None

    def _channels(self) -> tuple[int, int]:
        return self.out_channels, self.in_channels // self.groups

    def _border(self, padding: Size | str) -> tuple[int, ...] | str:
        if not isinstance(padding, str):
            return _sizes(padding, self.rank)
        if padding not in ("same", "valid") or (padding == "same" and set(self.stride) != {1}):
            raise ValueRangeError(
                f"{type(self).__name__}: padding must be integers, 'valid', or with stride 1 "
                f"'same', got {padding!r} with stride {self.stride}"
            )
        return padding

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"]
        parts.append(f"stride={self.stride}")
        for name, usual in (("padding", 0), ("output_padding", 0), ("dilation", 1)):
            value = getattr(self, name, ())
            if value not in ((usual,) * self.rank, ()):
                parts.append(f"{name}={value}")
        parts += [f"groups={self.groups}"] if self.groups != 1 else []
        return ", ".join(parts + (["bias=False"] if self.bias is None else []))


class Conv1d(_Conv):
    """Cross-correlation over sequences: (N, in_channels, L) → (N, out_channels, L').

    L' = ⌊(L + 2·padding - dilation·(kernel_size - 1) - 1)/stride⌋ + 1; ``weight`` is
    (out_channels, in_channels/groups, kernel_size). ``padding`` may be "same" or "valid".
    """

    rank = 1

    def forward(self, input: Any) -> Any:
        geometry = self.stride, self.padding, self.dilation, self.groups
        return F.conv1d(input, self.weight, self.bias, *geometry)


class Conv2d(_Conv):
    """Cross-correlation over images: (N, in_channels, H, W) → (N, out_channels, H', W').

    Sizes as for :class:`Conv1d`; ``weight`` is (out_channels, in_channels/groups, KH, KW).
    """

    rank = 2

    def forward(self, input: Any) -> Any:
        geometry = self.stride, self.padding, self.dilation, self.groups
        return F.conv2d(input, self.weight, self.bias, *geometry)


class ConvTranspose2d(_Conv):
    """The transpose of a convolution: (N, in_channels, H, W) → (N, out_channels, H', W').

    H' = (H - 1)·stride - 2·padding + dilation·(KH - 1) + output_padding + 1; ``weight`` is
    (in_channels, out_channels/groups, KH, KW).
    """

    rank = 2
    padding: tuple[int, ...]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: str = "zeros",
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        sizes = in_channels, out_channels, kernel_size, stride, padding, dilation, groups
        super().__init__(*sizes, bias, padding_mode, device, dtype)
        self.output_padding = _sizes(output_padding, self.rank, "output_padding")

    def _border(self, padding: Size | str) -> tuple[int, ...]:
        if isinstance(padding, str):
            raise ValueRangeError(f"ConvTranspose2d: padding must be integers, got {padding!r}")
        return _sizes(padding, self.rank)

    def _channels(self) -> tuple[int, int]:
        return self.in_channels, self.out_channels // self.groups

    def forward(self, input: Any) -> Any:
        geometry = self.stride, self.padding, self.output_padding, self.groups, self.dilation
        return F.conv_transpose2d(input, self.weight, self.bias, *geometry)


class _Pool(Module):
    """What the pooling layers share: the settings of a function of their name."""

    def __init__(self, kernel_size: Size, stride: Size | None, padding: Size, **more: Any) -> None:
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        for name, value in more.items():
            setattr(self, name, value)
        self._names = ("kernel_size", "stride", "padding", *more)

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._names}

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self._settings().items())


class _MaxPool(_Pool):
    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        if return_indices:
            raise NotImplementedError(f"{type(self).__name__}: return_indices is not supported")
        super().__init__(kernel_size, stride, padding, dilation=dilation, ceil_mode=ceil_mode)


class MaxPool1d(_MaxPool):
    """The largest element of each window of (N, C, L); ties share the gradient.

    Settings and sizes as for ``functional.max_pool1d``.
    """

    def forward(self, input: Any) -> Any:
        return F.max_pool1d(input, **self._settings())


class MaxPool2d(_MaxPool):
    """The largest element of each window of (N, C, H, W); ties share the gradient.

    Settings and sizes as for ``functional.max_pool1d``.
    """

    def forward(self, input: Any) -> Any:
        return F.max_pool2d(input, **self._settings())


class AvgPool1d(_Pool):
    """The mean of each window of (N, C, L), zeros of the padding counted.

    Settings and sizes as for ``functional.avg_pool1d``.
    """

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        more = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
        super().__init__(kernel_size, stride, padding, **more)

    def forward(self, input: Any) -> Any:
        return F.avg_pool1d(input, **self._settings())


class AvgPool2d(_Pool):
    """The mean of each window of (N, C, H, W), zeros of the padding counted.

    Settings and sizes as for ``functional.avg_pool2d``.
    """

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        more = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
        super().__init__(kernel_size, stride, padding, **more, divisor_override=divisor_override)

    def forward(self, input: Any) -> Any:
        return F.avg_pool2d(input, **self._settings())
