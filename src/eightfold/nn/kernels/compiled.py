"""The kernels: input transform, products, output transform. Each works on one block of tiles and holds no lock of Python's.

Importing this loads numba. Nothing is compiled before the first call; `ready.py` chooses where the result is kept.
"""
# pyright: basic, reportArgumentType=false, reportCallIssue=false
# numba's decorators change a function's signature in ways that the type checker cannot follow

from __future__ import annotations

import math
from typing import no_type_check

import numpy as np
from numba import njit

from .before import CHANNEL, PLAIN, SMALLEST
from .finish import finish_edge, finish_pixels, finish_whole
from .geometry import CHUNK, LARGE, POINT_PADDING, PRODUCT_PADDING, ROW, SIDES
from .moments import PARTS
from .product import ROWS, multiply
from .steps import add_squares, clear, copy, normalise, transform


@njit(nogil=True, cache=True)
@no_type_check
def to_side(points):
    """`geometry.to_side`, which a type checker may have wrapped."""
    return SIDES[1] if points == LARGE else SIDES[0]


@njit(nogil=True, cache=True)
@no_type_check
def to_factor(x, at, channels):
    """What a pixel is multiplied with so that its root mean square over the channels is 1."""
    length = np.float32(math.sqrt(add_squares(x, at, channels)))
    return np.float32(math.sqrt(channels)) / (np.float32(SMALLEST) if length < SMALLEST else length)


@njit(nogil=True, cache=True)
@no_type_check
def fill_factors(x, window, at, source, block, points):
    """The factors of the pixels under a block's tiles, into the `window` from `at` on, row by row. Outside of the image none is
    needed, and none is there."""
    side = to_side(points)
    reach = points - side
    for row in range(block.row * side - 1, (block.row + block.rows) * side - 1 + reach):
        for column in range(block.column * side - 1, (block.column + block.columns) * side - 1 + reach):
            y, x_at = min(max(row, 0), source.height - 1), min(max(column, 0), source.width - 1)
            if source.repeat or (y == row and x_at == column):
                window[at] = to_factor(x, ((y - source.first_row) * source.width + x_at) * source.channels, source.channels)
            at += 1


@njit(nogil=True, cache=True)
@no_type_check
def fill_window(x, table, steps, window, channels, source, block, kind):
    """The pixels under a block's tiles, activated; around the image zeros or its edge. channels = (first, how many, where in `window`
    the factors of the pixels are); window[row][column][channel].
    """
    lanes, side = len(kind[0]), to_side(len(kind[1]))
    reach = len(kind[1]) - side
    begin, depth, factor = channels
    at = 0
    for row in range(block.row * side - 1, (block.row + block.rows) * side - 1 + reach):
        y = min(max(row, 0), source.height - 1)
        for column in range(block.column * side - 1, (block.column + block.columns) * side - 1 + reach):
            x_at = min(max(column, 0), source.width - 1)
            if source.repeat or (y == row and x_at == column):
                pixel = ((y - source.first_row) * source.width + x_at) * source.channels + begin
                for channel in range(0, depth, lanes):
                    if steps[0] == PLAIN:
                        copy(x, pixel + channel, window, at + channel, kind)
                    else:
                        place = (steps[0], steps[1], begin + channel, source.channels, window[factor])
                        normalise(x, pixel + channel, table, place, window, at + channel, kind)
            else:
                for channel in range(0, depth, lanes):
                    clear(window, at + channel, kind)
            at += depth
            factor += 1


@njit(nogil=True, cache=True)
@no_type_check
def transform_chunk(x, table, steps, target, scratch, source, block, which):
    """`transform_input` of CHUNK channels; which = (the first of them, kind)."""
    begin, kind = which
    lanes, points, side = len(kind[0]), len(kind[1]), to_side(len(kind[1]))
    across = block.columns * side + points - side
    down = block.rows * side + points - side
    step = block.rows * block.columns * source.channels + POINT_PADDING
    depth = min(CHUNK, source.channels - begin)
    strip = down * across * depth
    fill_window(x, table, steps, scratch, (begin, depth, (down + points) * across * CHUNK), source, block, kind)
    for row in range(block.rows):
        line = row * side * across * depth
        for offset in range(0, across * depth, lanes):
            transform(scratch, line + offset, across * depth, scratch, (strip + offset, across * depth), kind)
        for point in range(points):
            for column in range(block.columns):
                at = strip + (point * across + column * side) * depth
                to = point * points * step + (row * block.columns + column) * source.channels + begin
                for channel in range(0, depth, lanes):
                    transform(scratch, at + channel, depth, target, (to + channel, step), kind)


@njit(nogil=True, cache=True)
@no_type_check
def transform_input(x, table, steps, target, scratch, source, block, kind):
    """The transform of a block: target[point][tile][channel], points POINT_PADDING further apart than they need to be.

    `scratch` takes a window of CHUNK channels, behind it a row of its tiles transformed along the columns, and behind that
    come the factors of `fill_factors`, where channel norm asks for them.
    """
    for begin in range(0, source.channels, CHUNK):
        transform_chunk(x, table, steps, target, scratch, source, block, (begin, kind))


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
def to_edges(tile, side, low, high, step, phase):
    """Which of a tile's results along one axis are inside: from the first up to the last."""
    begin, end = 0, side
    while begin < side and step * (tile * side + begin) - phase < low:
        begin += 1
    while end > begin and step * (tile * side + end - 1) - phase >= high:
        end -= 1
    return begin, end


@njit(nogil=True, cache=True)
@no_type_check
def write_sums(partial, sums, seen, place):
    """From partial sums to count, mean, sum of squared distances from the mean, and a bound of these distances.

    place = (first channel, how many, channels in all).
    """
    begin, columns, channels = place
    for one in range(columns):
        for part in range(PARTS):
            sums[part * channels + begin + one] = 0.0
        if seen:
            apart = float(partial[columns + one]) / seen
            sums[begin + one] = seen
            sums[channels + begin + one] = float(partial[one]) + apart
            sums[2 * channels + begin + one] = max(0.0, float(partial[2 * columns + one]) - seen * apart * apart)
            sums[3 * channels + begin + one] = float(partial[3 * columns + one]) + abs(apart)


@njit(nogil=True, cache=True)
@no_type_check
def transform_output(products, bias, residual, result, sums, target, block, kind):
    """The pixels of a block from its products[point][tile][column].

    `sums` takes PARTS rows of a number a channel, as `write_sums` has them, of the pixels written.
    """
    lanes, side = len(kind[0]), to_side(len(kind[1]))
    step = block.rows * block.columns * target.columns + PRODUCT_PADDING
    partial = np.empty(PARTS * target.columns, np.float32)
    seen = 0
    for row in range(block.row, block.row + block.rows):
        top, bottom = to_edges(row, side, target.low, target.high, target.step, target.row_phase)
        for column in range(block.column, block.column + block.columns):
            left, right = to_edges(column, side, 0, target.width, target.step, target.column_phase)
            number = (bottom - top) * (right - left)
            if number == 0:
                continue
            y = target.step * row * side - target.row_phase - target.first_row
            x = target.step * column * side - target.column_phase
            to = (y * target.width + x) * target.channels + target.channel
            steps = (target.step * target.width * target.channels, target.step * target.channels)
            read = ((row - block.row) * block.columns + column - block.column) * target.columns
            first = 1 if seen == 0 else 0
            inverse = np.float32(1 / number)
            for one in range(0, target.columns, lanes):
                ends = (read + one, step, target.channel + one, to + one)
                place = (*ends, *steps, one, target.columns, first, top, bottom, left, right, inverse)
                if number == side * side:
                    finish_whole(products, bias, residual, result, partial, place, kind)
                else:
                    finish_edge(products, bias, residual, result, partial, place, kind)
            seen += number
    write_sums(partial, sums, seen, (target.channel, target.columns, target.channels))


@njit(nogil=True, cache=True)
@no_type_check
def activate(x, at, table, steps, target, sizes, kind):
    """`sizes` = (pixels, channels) from `at` on, normalised and activated, into `target`."""
    pixels, channels = sizes
    lanes = len(kind[0])
    factor = np.float32(1)
    for pixel in range(pixels):
        if steps[0] == CHANNEL:
            factor = to_factor(x, at + pixel * channels, channels)
        for channel in range(0, channels, lanes):
            offset = pixel * channels + channel
            normalise(x, at + offset, table, (steps[0], steps[1], channel, channels, factor), target, offset, kind)


@njit(nogil=True, cache=True)
@no_type_check
def finish_linear(x, residual, result, sums, place, kind):
    """result = x + residual (or nothing written without one), and the sums of what is there then; place = (at in x, at in the others,
    pixels, channels).
    """
    at, to, pixels, channels = place
    partial = np.empty(PARTS * channels, np.float32)
    for pixel in range(0, pixels, ROW):
        first, count = 1 if pixel == 0 else 0, min(ROW, pixels - pixel)
        inverse = np.float32(1 / count)
        for channel in range(0, channels, len(kind[0])):
            offset = pixel * channels + channel
            finish_pixels(x, residual, result, partial, (at + offset, to + offset, channel, channels, first, count, inverse), kind)
    write_sums(partial, sums, pixels, (0, channels, channels))
