"""The kernels: input transform, products, output transform. Each works on one block of tiles and holds no lock of Python's.

Importing this loads numba. Nothing is compiled before the first call; `ready.py` chooses where the result is kept.
"""
# pyright: basic, reportArgumentType=false, reportCallIssue=false
# numba's decorators change a function's signature in ways that the type checker cannot follow

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit

from .finish import finish_edge, finish_whole
from .geometry import CHUNK, POINT_PADDING, PRODUCT_PADDING, SIDE
from .steps import ROWS, clear, copy, multiply, normalise, normalise_silu, transform

PLAIN, NORM, NORM_SILU = 0, 1, 2  # what is done to an input before it is convolved


@njit(nogil=True, cache=True)
@no_type_check
def fill_window(x, affine, mode, window, channels, source, block, kind):
    """The pixels under a block's tiles, activated; zeros outside of the image. channels = (first, how many);
    window[row][column][channel].
    """
    lanes, reach = len(kind[0]), len(kind[1]) - SIDE
    begin, depth = channels
    at = 0
    for row in range(block.row * SIDE - 1, (block.row + block.rows) * SIDE - 1 + reach):
        for column in range(block.column * SIDE - 1, (block.column + block.columns) * SIDE - 1 + reach):
            if 0 <= row < source.height and 0 <= column < source.width:
                pixel = ((row - source.first_row) * source.width + column) * source.channels + begin
                for channel in range(0, depth, lanes):
                    place = (begin + channel, source.channels)
                    if mode == NORM_SILU:
                        normalise_silu(x, pixel + channel, affine, place, window, at + channel, kind)
                    elif mode == NORM:
                        normalise(x, pixel + channel, affine, place, window, at + channel, kind)
                    else:
                        copy(x, pixel + channel, window, at + channel, kind)
            else:
                for channel in range(0, depth, lanes):
                    clear(window, at + channel, kind)
            at += depth


@njit(nogil=True, cache=True)
@no_type_check
def transform_input(x, affine, mode, target, scratch, source, block, kind):
    """The transform of a block: target[point][tile][channel], points POINT_PADDING further apart than they need to be."""
    lanes, points = len(kind[0]), len(kind[1])
    across = block.columns * SIDE + points - SIDE
    down = block.rows * SIDE + points - SIDE
    step = block.rows * block.columns * source.channels + POINT_PADDING
    for begin in range(0, source.channels, CHUNK):
        depth = min(CHUNK, source.channels - begin)
        strip = down * across * depth  # behind the window: one row of tiles, transformed along the columns
        fill_window(x, affine, mode, scratch, (begin, depth), source, block, kind)
        for row in range(block.rows):
            line = row * SIDE * across * depth
            for offset in range(0, across * depth, lanes):
                transform(scratch, line + offset, across * depth, scratch, (strip + offset, across * depth), kind)
            for point in range(points):
                for column in range(block.columns):
                    at = strip + (point * across + column * SIDE) * depth
                    to = point * points * step + (row * block.columns + column) * source.channels + begin
                    for channel in range(0, depth, lanes):
                        transform(scratch, at + channel, depth, target, (to + channel, step), kind)


@njit(nogil=True, cache=True)
@no_type_check
def multiply_points(left, weights, start, target, shape, kind):
    """The products of all points, panel by panel of two vectors of columns; `start` is what the sums begin with, a number a column."""
    wide = 2 * len(kind[0])
    for point in range(shape.points):
        for panel in range(shape.columns // wide):
            at = (point * shape.panels + shape.panel + panel) * shape.depth * wide
            begin = (shape.panel + panel) * wide
            for tile in range(0, shape.tiles, ROWS):
                read = shape.left + point * shape.left_point + tile * shape.left_row
                write = shape.target + point * shape.target_point + tile * shape.target_row + panel * wide
                place = (read, shape.left_row, at, shape.depth, write, shape.target_row, begin)
                multiply(left, weights, start, target, place, min(ROWS, shape.tiles - tile), kind)


@njit(nogil=True, cache=True)
@no_type_check
def to_edges(tile, low, high, step, phase):
    """Which of a tile's four results along one axis are inside: from the first up to the last."""
    begin, end = 0, SIDE
    while begin < SIDE and step * (tile * SIDE + begin) - phase < low:
        begin += 1
    while end > begin and step * (tile * SIDE + end - 1) - phase >= high:
        end -= 1
    return begin, end


@njit(nogil=True, cache=True)
@no_type_check
def transform_output(products, bias, residual, result, sums, target, block, kind):
    """The pixels of a block from its products[point][tile][column].

    `sums` takes three rows of a number a channel: count, mean, and sum of squared distances from the mean, of the pixels written.
    """
    lanes = len(kind[0])
    step = block.rows * block.columns * target.columns + PRODUCT_PADDING
    partial = np.empty(3 * target.columns, np.float32)
    seen = 0
    for row in range(block.row, block.row + block.rows):
        top, bottom = to_edges(row, target.low, target.high, target.step, target.row_phase)
        for column in range(block.column, block.column + block.columns):
            left, right = to_edges(column, 0, target.width, target.step, target.column_phase)
            number = (bottom - top) * (right - left)
            if number == 0:
                continue
            y = target.step * row * SIDE - target.row_phase - target.first_row
            x = target.step * column * SIDE - target.column_phase
            to = (y * target.width + x) * target.channels + target.channel
            steps = (target.step * target.width * target.channels, target.step * target.channels)
            read = ((row - block.row) * block.columns + column - block.column) * target.columns
            first = 1 if seen == 0 else 0
            inverse = np.float32(1 / number)
            for one in range(0, target.columns, lanes):
                ends = (read + one, step, target.channel + one, to + one)
                place = (*ends, *steps, one, target.columns, first, top, bottom, left, right, inverse)
                if number == SIDE * SIDE:
                    finish_whole(products, bias, residual, result, partial, place, kind)
                else:
                    finish_edge(products, bias, residual, result, partial, place, kind)
            seen += number
    for one in range(target.columns):
        channel = target.channel + one
        sums[channel] = seen
        sums[target.channels + channel] = 0.0
        sums[2 * target.channels + channel] = 0.0
        if seen:
            apart = float(partial[target.columns + one]) / seen
            sums[target.channels + channel] = float(partial[one]) + apart
            sums[2 * target.channels + channel] = max(0.0, float(partial[2 * target.columns + one]) - seen * apart * apart)


@njit(nogil=True, cache=True)
@no_type_check
def activate(x, at, affine, mode, target, sizes, kind):
    """`sizes` = (pixels, channels) from `at` on, normalised, into `target`."""
    pixels, channels = sizes
    lanes = len(kind[0])
    for pixel in range(pixels):
        for channel in range(0, channels, lanes):
            offset = pixel * channels + channel
            if mode == NORM_SILU:
                normalise_silu(x, at + offset, affine, (channel, channels), target, offset, kind)
            else:
                normalise(x, at + offset, affine, (channel, channels), target, offset, kind)
