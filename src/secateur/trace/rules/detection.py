"""torchvision's ops on boxes and regions, registered by name, so that torchvision need not be installed."""

from __future__ import annotations

import math

from secateur.trace.op import Op
from secateur.trace.registry import rule


@rule("torchvision::nms")
def nms(op: Op) -> None:
    """dets: [n, 4], scores: [n] -> [k]: the number of selected boxes depends on data"""
    op.opaque("the size of the result depends on data")


@rule("torchvision::box_iou_rotated")
def box_iou_rotated(op: Op) -> None:
    """boxes: [n, 5], boxes: [m, 5] -> [n, m]"""
    first, second = op.dims(op["boxes1"]), op.dims(op["boxes2"])
    for coordinates in (first[1], second[1]):
        op.freeze(coordinates, "coordinates of boxes")
    op.result([first[0], second[0]], [False, False])


@rule("torchvision::roi_align", "torchvision::roi_pool")
def regions(op: Op) -> None:
    """x: [n, c, h, w], boxes: [k, 5] -> [k, c, h', w']"""
    dims, boxes, zero = op.dims(op["input"]), op.dims(op["rois"]), op.zero(op["input"])
    for place in (dims[0], *dims[2:], boxes[1]):
        op.freeze(place, "selected by boxes")
    for out in op.outs:
        spatial = op.fresh(out.shape[2:], "spatial")
        op.result([boxes[0], dims[1], *spatial], [False, zero[1], True, True], out=out)


@rule("torchvision::ps_roi_align", "torchvision::ps_roi_pool")
def regions_by_place(op: Op) -> None:
    """x: [n, c*h'*w', h, w], boxes: [k, 5] -> [k, c, h', w']: each position of the result reads its own channels"""
    dims, boxes, zero = op.dims(op["input"]), op.dims(op["rois"]), op.zero(op["input"])
    count, places = op.outs[0].shape[1], math.prod(op.outs[0].shape[2:])
    parts = op.factor(dims[1], [count, places])
    if parts is None:
        return op.opaque("the channels do not match the positions of a region")
    for place in (dims[0], parts[1], *dims[2:], boxes[1]):
        op.freeze(place, "selected by boxes")
    for out in op.outs:
        spatial = op.fresh(out.shape[2:], "spatial")
        op.result([boxes[0], parts[0], *spatial], [False, zero[1], True, True], out=out)
