"""Read text files, plain or gzip, in blocks of whole lines."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["iter_lines", "line_blocks"]

BLOCK_BYTES = 2**22
_GZIP = b"\x1f\x8b"
_OTHER = {b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip"}
# The empty block that ends a file of bgzip (SAM specification, 4.1.2)
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def line_blocks(
    path: str | Path,
    *,
    block_bytes: int = BLOCK_BYTES,
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[memoryview]:
    """Yield the text of a file in blocks that end with a line.

    gzip and bgzip are known by their first bytes, whatever the file is called. A block is valid
    until the next one is asked for: one buffer holds them all, so memory does not grow with the
    file.

    Parameters
    ----------
    path
        File.
    block_bytes
        Size of a block before it is cut at its last line end.
    on_bytes
        Called with the bytes of the file that were read since the last call, for a progress bar.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated or damaged, compressed in another way, or not text.
    """
    path = Path(path)
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        msg = f"{path} {found}; give a text file, plain or gzip"
        raise FileNotFoundError(msg)
    buffer = bytearray(block_bytes)
    view = memoryview(buffer)
    kept, seen = 0, 0
    with path.open("rb") as raw, _opened(raw, path) as file:
        while True:
            n_read = _read(file, view[kept:], path)
            if on_bytes is not None:
                on_bytes(raw.tell() - seen)
                seen = raw.tell()
            filled = kept + n_read
            if n_read == 0:
                if filled:  # the last line, without its line end
                    yield memoryview(buffer[:filled] + b"\n")
                return
            cut = buffer.rfind(b"\n", 0, filled) + 1
            if cut:
                yield view[:cut]
            elif filled == block_bytes:
                msg = f"{path} has a line of more than {block_bytes} bytes: it is no table of text"
                raise ValueError(msg)
            kept = filled - cut
            buffer[:kept] = buffer[cut:filled]


def iter_lines(path: str | Path) -> Iterator[str]:
    """Yield the lines of a text file, plain or gzip, without their ends; errors as above."""
    for block in line_blocks(path):
        try:
            text = str(block, "utf-8")
        except UnicodeDecodeError:
            msg = f"{path} is not text in UTF-8"
            raise ValueError(msg) from None
        for line in text.split("\n")[:-1]:
            yield line.removesuffix("\r")


def _opened(raw: BinaryIO, path: Path) -> Any:
    head = raw.read(18)
    raw.seek(0)
    for magic, name in _OTHER.items():
        if head.startswith(magic):
            msg = f"{path} is compressed with {name}; give plain text or gzip"
            raise ValueError(msg)
    if not head.startswith(_GZIP):
        return raw
    if head[12:14] == b"BC":
        raw.seek(max(0, path.stat().st_size - len(_BGZF_END)))
        if raw.read() != _BGZF_END:
            msg = f"{path} lacks the end mark of bgzip: it may have been cut off between blocks"
            warnings.warn(msg, stacklevel=4)
        raw.seek(0)
    from isal import igzip

    return igzip.IGzipFile(fileobj=raw, mode="rb")


def _read(file: Any, view: memoryview, path: Path) -> int:
    from isal import isal_zlib

    damaged: Any = isal_zlib.error
    try:
        return file.readinto(view)
    except EOFError:
        msg = f"{path} is truncated: its gzip stream ends early; copy or download it again"
    except (OSError, damaged) as error:
        # IGzipFile reports damage as BadGzipFile, an OSError without a number
        if isinstance(error, OSError) and error.errno is not None:
            raise
        msg = f"{path} is damaged: {error}; copy or download it again"
    raise ValueError(msg)
