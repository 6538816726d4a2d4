"""Plain data as JSON: numbers, text, lists, dictionaries, arrays, tensors, and nothing else.

No pickle: what is read is rebuilt from JSON and raw numbers, so that it is what it claims to be. Anything else arrives as an
`Opaque` of its type's name, of which a check says that it is no tensor and no number.
"""

import base64
import gc
import json
import math
from collections.abc import Mapping
from contextlib import contextmanager

import numpy as np
import torch

ITEMS_AT_MOST = 1_000_000
DEPTH_AT_MOST = 40
CHARACTERS_AT_MOST = 8_000_000
"""What one text may hold: entries of lists and dictionaries, levels of nesting, characters of JSON (tensors in base64)."""

KEYS_AT_MOST = 1_000
TYPES_AT_MOST = 100
"""Entries of one dictionary, since keys can be chosen so that many take hours to put in; types of what is no plain data."""

AXES_AT_MOST = 16
NUMBERS = {np.dtype(name).str for name in ("?", *"bhilBHIL", *"efd", *"FD")}  # NumPy's types of numbers, as it writes them


class Opaque:
    """Stands for a value that is no plain data. Its class has the name of the value's type."""


class _Room:
    """Counts the parts of a text, on its way out and on its way in. Raises ValueError where it holds too much."""

    def __init__(self):
        self.left = ITEMS_AT_MOST
        self.types: dict[str, type[Opaque]] = {}

    def take(self, depth: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise ValueError(f"more than {ITEMS_AT_MOST:,} entries")
        if depth > DEPTH_AT_MOST:
            raise ValueError(f"lists or dictionaries more than {DEPTH_AT_MOST} deep")

    def opaque(self, name: str) -> Opaque:
        if name not in self.types:
            if len(self.types) == TYPES_AT_MOST:
                raise ValueError(f"values of more than {TYPES_AT_MOST} types")
            self.types[name] = type(name, (Opaque,), {})
        return self.types[name]()


def encode(value) -> str:
    """The value as JSON. Raises ValueError where it holds too much."""
    text = json.dumps(_mark(value, _Room(), 0))
    if len(text) > CHARACTERS_AT_MOST:
        raise ValueError(f"more than {CHARACTERS_AT_MOST:,} characters of data")
    return text


def _mark(value, room: _Room, depth: int):
    room.take(depth)
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, torch.Tensor):
        return {"tensor": _raw((value.float() if value.dtype == torch.bfloat16 else value).numpy(force=True))}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.str in NUMBERS:
        return {"array": _raw(np.asarray(value))}
    if isinstance(value, list | tuple):
        return {"tuple" if isinstance(value, tuple) else "list": [_mark(item, room, depth + 1) for item in value]}
    if isinstance(value, Mapping):
        return {"dict": [[_mark(key, room, depth + 1), _mark(item, room, depth + 1)] for key, item in value.items()]}
    return {"opaque": type(value).__name__}


def _raw(array: np.ndarray) -> list:
    if array.nbytes > CHARACTERS_AT_MOST:
        raise ValueError(f"a tensor of {array.nbytes:,} bytes")
    return [array.dtype.str, list(array.shape), base64.b64encode(array.tobytes()).decode()]


def decode(text: str):
    """The value that `encode` wrote. Raises ValueError for any other text."""
    if len(text) > CHARACTERS_AT_MOST:
        raise ValueError(f"more than {CHARACTERS_AT_MOST:,} characters of data")
    try:
        with _no_collection():
            return _value(json.loads(text), _Room(), 0)
    except (RecursionError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not plain data: {error}") from error


@contextmanager
def _no_collection():
    """No garbage collection: what is read has no cycles, and looking for them through 600,000 lists takes seconds."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _value(part, room: _Room, depth: int):
    room.take(depth)
    if isinstance(part, list):
        raise ValueError("a list without its mark")
    if not isinstance(part, dict):
        return part
    ((kind, content),) = part.items()
    if kind == "tensor":
        return torch.from_numpy(_array(*content))
    if kind == "array":
        return _array(*content)
    if kind in ("list", "tuple"):
        return (list if kind == "list" else tuple)(_value(item, room, depth + 1) for item in content)
    if kind == "dict":
        if len(content) > KEYS_AT_MOST:
            raise ValueError(f"a dictionary of more than {KEYS_AT_MOST:,} entries")
        return {_value(key, room, depth + 1): _value(item, room, depth + 1) for key, item in content}
    if kind == "opaque":
        named = isinstance(content, str) and len(content) < 60 and content.isidentifier()
        return room.opaque(content if named else "object")
    raise ValueError(f"unknown mark {str(kind)[:60]!r}")


def _array(dtype: str, shape: list[int], data: str) -> np.ndarray:
    if (
        dtype not in NUMBERS
        or len(shape) > AXES_AT_MOST
        or not all(type(n) is int and 0 <= n <= CHARACTERS_AT_MOST for n in shape)
    ):
        raise ValueError("an array of something else than numbers")
    raw = base64.b64decode(data, validate=True)
    if len(raw) != math.prod(shape) * np.dtype(dtype).itemsize:
        raise ValueError("an array whose size is not that of its data")
    return np.frombuffer(raw, dtype).reshape(shape).copy()
