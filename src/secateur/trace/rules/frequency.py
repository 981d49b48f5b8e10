"""Fourier transforms and complex numbers: channels pass through, frequencies and parts of numbers are frozen."""

from __future__ import annotations

from secateur.terms import Axis
from secateur.trace.op import Op
from secateur.trace.registry import rule


@rule("aten::_fft_r2c", "aten::_fft_c2c", "aten::_fft_c2r")
def fft(op: Op) -> None:
    """x: [c, *] -> [c, *'], a sum over each transformed dimension"""
    x, out = op["self"], op.outs[0]
    dims, zero = op.dims(x), op.zero(x)
    for dim in {dim % len(dims) for dim in op["dim"]}:
        op.freeze(dims[dim], "transformed by an FFT")
        dims[dim] = op.fresh([out.shape[dim]], "frequencies of an FFT")[0]
    op.result(dims, zero)


@rule("aten::view_as_real")
def view_as_real(op: Op) -> None:
    """x: [a], complex -> [a, 2]"""
    parts = Axis(2, op.recorder.reason(op.why("real and imaginary parts")))
    op.result([*op.dims(op["self"]), parts], [*op.zero(op["self"]), False])


@rule("aten::view_as_complex")
def view_as_complex(op: Op) -> None:
    """x: [a, 2] -> [a], complex"""
    *dims, parts = op.dims(op["self"])
    op.freeze(parts, "real and imaginary parts")
    op.result(dims, op.zero(op["self"])[:-1])
