"""Compiled parser of fragment lines: chromosome, start, end, barcode, count."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

# Threads run this code at the same time; its machine code is kept on disk.
compiled: Any = njit(cache=True, nogil=True)

# What ends a scan; all but the first two are errors in the line at the returned position.
DONE, FULL, COLUMNS, NUMBER, REVERSED, LONG = range(6)
# Longest name of a chromosome or barcode, in bytes
LONGEST = 2**12
# Code of a barcode that is not in the list of wanted ones, and of one that is empty
UNLISTED, NO_BARCODE = -1, -2
_TAB, _NEWLINE, _RETURN, _HASH, _ZERO, _NINE = 9, 10, 13, 35, 48, 57
_TOO_LARGE = 2**31
_FNV_OFFSET = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)


@compiled
def _same(one, low, other, high, length):
    """Whether so many bytes of `one` from `low` on equal those of `other` from `high` on."""
    for i in range(length):
        if one[low + i] != other[high + i]:
            return False
    return True


@compiled
def look_up(text, low, high, table, pool, borders, counts, grow):
    """Code of ``text[low:high]`` in a table of byte strings; a new one is added if `grow`.

    The table is open-addressed; ``counts`` holds the numbers of keys and of their bytes. The caller
    leaves room.
    """
    value = _FNV_OFFSET
    for i in range(low, high):
        value = (value ^ np.uint64(text[i])) * _FNV_PRIME
    mask = len(table) - 1
    # The high bits of this hash are the better mixed ones.
    slot = np.int64((value ^ (value >> np.uint64(32))) & np.uint64(mask))
    length = high - low
    while table[slot] >= 0:
        code = table[slot]
        first = borders[code]
        if borders[code + 1] - first == length and _same(pool, first, text, low, length):
            return code
        slot = (slot + 1) & mask
    if not grow:
        return np.int32(UNLISTED)
    code = np.int32(counts[0])
    first = borders[code]
    for i in range(length):
        pool[first + i] = text[low + i]
    borders[code + 1] = first + length
    table[slot] = code
    counts[0] += 1
    counts[1] = first + length
    return code


@compiled
def rehash(pool, old_borders, n_keys, table, borders, counts):
    """Enter keys that stand in `pool` into an empty, larger table; codes stay the same."""
    for code in range(n_keys):
        look_up(pool, old_borders[code], old_borders[code + 1], table, pool, borders, counts, True)


@compiled
def _integer(text, low, high):
    """Number written in ``text[low:high]``, or -1."""
    if low == high or high - low > 10:
        return -1
    value = 0
    for i in range(low, high):
        if text[i] < _ZERO or text[i] > _NINE:
            return -1
        value = value * 10 + (text[i] - _ZERO)
    return value if value < _TOO_LARGE else -1


@compiled
def _to(byte, text, position):
    """Position of the next such byte, or of the end of the line if that comes first."""
    while text[position] != byte and text[position] != _NEWLINE:
        position += 1
    return position


@compiled
def scan(
    text,
    position,
    lines,
    chrom_table,
    chrom_pool,
    chrom_borders,
    chrom_counts,
    table,
    pool,
    borders,
    counts,
    grow,
    chrom,
    start,
    end,
    barcode,
):
    """Parse lines from `position` on into the last four arrays, as far as there is room.

    Returns the position reached, the lines and the fragments read, and why it ended.
    """
    n, size = 0, len(text)
    last_chrom = np.int32(-1)
    last_low, last_high = 0, 0
    while position < size:
        begin = position
        if text[begin] == _HASH or text[begin] == _NEWLINE or text[begin] == _RETURN:
            position = _to(_NEWLINE, text, begin) + 1
            lines += 1
            continue
        if n == len(chrom):
            return begin, lines, n, FULL
        tab1 = _to(_TAB, text, begin)
        tab2 = _to(_TAB, text, tab1 + 1) if text[tab1] == _TAB else tab1
        tab3 = _to(_TAB, text, tab2 + 1) if text[tab2] == _TAB else tab2
        if text[tab3] != _TAB or tab1 == begin:
            return begin, lines, n, COLUMNS
        stop = _to(_TAB, text, tab3 + 1)
        position = _to(_NEWLINE, text, stop) + 1
        first, last = _integer(text, tab1 + 1, tab2), _integer(text, tab2 + 1, tab3)
        if first < 0 or last < 0:
            return begin, lines, n, NUMBER
        if first >= last:
            return begin, lines, n, REVERSED
        if stop - tab3 > LONGEST or tab1 - begin > LONGEST:
            return begin, lines, n, LONG
        # tables are full at one half; one more key must fit
        if 2 * (counts[0] + 1) > len(table) or 2 * (chrom_counts[0] + 1) > len(chrom_table):
            return begin, lines, n, FULL
        if counts[1] + stop - tab3 > len(pool) or chrom_counts[1] + tab1 - begin > len(chrom_pool):
            return begin, lines, n, FULL
        # most lines repeat the chromosome of the line before
        length = tab1 - begin
        known = last_chrom >= 0 and last_high - last_low == length
        if not (known and _same(text, last_low, text, begin, length)):
            last_chrom = look_up(
                text, begin, tab1, chrom_table, chrom_pool, chrom_borders, chrom_counts, True
            )
            last_low, last_high = begin, tab1
        high = stop
        if text[high - 1] == _RETURN and high > tab3 + 1:
            high -= 1
        if high == tab3 + 1:
            barcode[n] = NO_BARCODE
        else:
            barcode[n] = look_up(text, tab3 + 1, high, table, pool, borders, counts, grow)
        chrom[n] = last_chrom
        start[n] = first
        end[n] = last
        n += 1
        lines += 1
    return position, lines, n, DONE
