"""Compiled search: which regions, or tiles, fragments fall into."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

# Threads run this code at the same time; its machine code is kept on disk.
compiled: Any = njit(cache=True, nogil=True)

# How a fragment counts
FRAGMENT, INSERTION, PAIRED = range(3)


@compiled
def _first_reaching(furthest, low, high, point, near):
    """First position in ``low..high`` with ``furthest > point``, sought outwards from `near`."""
    near = min(max(near, low), high - 1)
    step = 1
    if furthest[near] > point:
        top = near
        bottom = near - 1
        while bottom >= low and furthest[bottom] > point:
            top = bottom
            bottom -= step
            step *= 2
        bottom = max(bottom, low - 1)
    else:
        bottom = near
        top = near + 1
        while top < high and furthest[top] <= point:
            bottom = top
            top += step
            step *= 2
        top = min(top, high)
    while top - bottom > 1:
        middle = (top + bottom) // 2
        if furthest[middle] > point:
            top = middle
        else:
            bottom = middle
    return top


@compiled
def find_regions(borders, starts, ends, furthest, ids, chrom, start, end, pairs):
    """Write (query, id) of all overlapping pairs as far as there is room, in order of the queries.

    Returns the number of pairs there are; with more than there is room for, call again.
    """
    n, near = 0, 0
    for i in range(len(start)):
        code = chrom[i]
        if code < 0 or start[i] >= end[i]:
            continue
        low, high = borders[code], borders[code + 1]
        if low == high:
            continue
        near = _first_reaching(furthest, low, high, start[i], near)
        j = near
        while j < high and starts[j] < end[i]:
            if ends[j] > start[i]:
                if n < len(pairs):
                    pairs[n, 0] = i
                    pairs[n, 1] = ids[j]
                n += 1
            j += 1
    return n


@compiled
def count_regions(
    borders,
    starts,
    ends,
    furthest,
    ids,
    codes,
    chrom,
    start,
    end,
    barcode,
    counting,
    first,
    rows,
    columns,
    n_in_regions,
):
    """Write (barcode, region) for what each fragment counts, from fragment `first` on.

    Returns the next fragment and the number of pairs: it stops before a fragment that finds no room.
    ``codes`` translates the chromosomes; negative barcodes are passed over.
    """
    n, room = 0, len(rows)
    near, near_end = 0, 0
    for i in range(first, len(start)):
        row = barcode[i]
        code = codes[chrom[i]]
        if row < 0 or code < 0:
            continue
        low, high = borders[code], borders[code + 1]
        a, b = start[i], end[i]
        last = b if counting == FRAGMENT else a + 1
        before = n
        near = _first_reaching(furthest, low, high, a, near)
        j = near
        while j < high and starts[j] < last:
            if ends[j] > a:
                if n == room:
                    return i, before
                rows[n] = row
                columns[n] = ids[j]
                n += 1
            j += 1
        if counting != FRAGMENT:
            near_end = _first_reaching(furthest, low, high, b - 1, near_end)
            j = near_end
            while j < high and starts[j] < b:
                # a region with both ends of the fragment counts once where they are a pair
                if ends[j] >= b and (counting == INSERTION or starts[j] > a):
                    if n == room:
                        return i, before
                    rows[n] = row
                    columns[n] = ids[j]
                    n += 1
                j += 1
        if n > before:
            n_in_regions[row] += 1
    return len(start), n


@compiled
def count_tiles(
    tile_size, stride, codes, chrom, start, end, barcode, counting, first, rows, columns, n_in
):
    """Write (barcode, chromosome * stride + tile) for what each fragment counts, as above."""
    n, room = 0, len(rows)
    for i in range(first, len(start)):
        row = barcode[i]
        code = codes[chrom[i]]
        if row < 0 or code < 0:
            continue
        a, b = start[i] // tile_size, (end[i] - 1) // tile_size
        n_tiles = b - a + 1 if counting == FRAGMENT else 2
        if counting == PAIRED and a == b:
            n_tiles = 1
        if n + n_tiles > room:
            return i, n
        for k in range(n_tiles):
            rows[n] = row
            columns[n] = code * stride + (a + k if counting == FRAGMENT else (a, b)[k])
            n += 1
        n_in[row] += 1
    return len(start), n


@compiled
def count_fragments(barcode, n_fragments):
    """Count the fragments of each barcode; returns those unlisted and those without a barcode."""
    unlisted, nameless = 0, 0
    for code in barcode:
        if code >= 0:
            n_fragments[code] += 1
        elif code == -1:
            unlisted += 1
        else:
            nameless += 1
    return unlisted, nameless


@compiled
def count_shifted(borders, starts, ends, furthest, codes, chrom, start, end, step, shift):
    """Count the fragments, one in `step`, that overlap a region after a move by `shift`."""
    n, near = 0, 0
    for i in range(0, len(start), step):
        code = codes[chrom[i]]
        if code < 0:
            continue
        a, b = start[i] + shift, end[i] + shift
        low, high = borders[code], borders[code + 1]
        near = _first_reaching(furthest, low, high, a, near)
        j = near
        while j < high and starts[j] < b:
            if ends[j] > a:
                n += 1
                break
            j += 1
    return n


@compiled
def gather(indptr, indices, is_open, one, map_indptr, map_indices, out, sizes, n_open, n_hit):
    """Write the tokens of the open peaks of each cell, where they ascend from peak to peak.

    ``indices`` and ``is_open`` begin with the first of the cells, ``sizes`` gets their tokens.

    ``one`` holds the token of each peak, -1 for none and -2 for several, which stand in the csr
    map. A token that repeats the one before is left out. Returns the number of tokens, or -1 where
    they do not ascend.
    """
    n, offset = 0, indptr[0]
    for row in range(len(indptr) - 1):
        begin, opened, hit = n, 0, 0
        last = -1
        for k in range(indptr[row] - offset, indptr[row + 1] - offset):
            if not is_open[k]:
                continue
            opened += 1
            peak = np.uint32(indices[k])
            token = one[peak]
            if token > last:
                out[n] = token
                last = token
                n += 1
                hit += 1
            elif token == -1:
                continue
            elif token == -2:
                hit += 1
                for m in range(map_indptr[peak], map_indptr[peak + np.uint32(1)]):
                    token = map_indices[m]
                    if token > last:
                        out[n] = token
                        last = token
                        n += 1
                    elif token < last:
                        return -1
            elif token == last and n > begin:
                hit += 1
            else:
                return -1
        n_open[row], n_hit[row] = opened, hit
        sizes[row] = n - begin
    return n


@compiled
def gather_unordered(
    indptr, indices, is_open, map_indptr, map_indices, seen, out, sizes, n_open, n_hit
):
    """Write the tokens as above in the order of the peaks, whatever it is, each token once.

    ``seen`` has room for the last cell that had each token, and starts at -1.
    """
    n, offset = 0, indptr[0]
    for row in range(len(indptr) - 1):
        begin, opened, hit = n, 0, 0
        for k in range(indptr[row] - offset, indptr[row + 1] - offset):
            if not is_open[k]:
                continue
            opened += 1
            first, last = map_indptr[indices[k]], map_indptr[indices[k] + 1]
            hit += last > first
            for m in range(first, last):
                token = map_indices[m]
                if seen[token] != row:
                    seen[token] = row
                    out[n] = token
                    n += 1
        n_open[row], n_hit[row] = opened, hit
        sizes[row] = n - begin
    return n
