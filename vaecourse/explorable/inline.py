"""What a figure brings with it, in its own HTML: scripts, styles, numbers. And how heavy that may be."""

import gzip
import json
from base64 import b64encode
from html import escape
from importlib.resources import files

import torch
from torch import Tensor

MOST_BYTES = 600_000  # compressed, as a server sends them


def script(*names: str) -> str:
    """The scripts NAME.js, one after another in one scope of their own; a later one calls what an earlier one defines."""
    package = files("vaecourse.explorable")
    parts = "\n".join((package / f"{name}.js").read_text("utf-8") for name in names)
    return f"<script>(() => {{\n{parts}}})();</script>"


def style(*names: str) -> str:
    """The styles NAME.css."""
    package = files("vaecourse.explorable")
    return "".join(f"<style>{(package / f'{name}.css').read_text('utf-8')}</style>" for name in names)


def attribute(data: object) -> str:
    """JSON for the value of an attribute, between double quotes."""
    return escape(json.dumps(data, ensure_ascii=False, separators=(",", ":")))


def numbers(values: Tensor, kind: torch.dtype) -> str:
    """The numbers in a row, in base 64: float16, float32, int8 or int16, first all low bytes, then those above, and so on.

    So what is alike among the numbers, signs and exponents, lies together, and a server sends a sixth less.
    """
    written = {torch.float16: "<f2", torch.float32: "<f4", torch.int8: "i1", torch.int16: "<i2"}[kind]
    array = values.detach().cpu().to(kind).flatten().numpy().astype(written)
    return b64encode(array.view("u1").reshape(-1, array.itemsize).T.tobytes()).decode()


def check_weight(html: str, lighter: str = "a narrower network, fewer points") -> str:
    """The figure as it is. Raises ValueError where it is heavier than a page may carry; `lighter` says what would help."""
    weight = len(gzip.compress(html.encode()))
    if weight > MOST_BYTES:
        raise ValueError(f"the figure weighs {weight // 1000} kB, compressed; {MOST_BYTES // 1000} are allowed: take {lighter}")
    return html
