"""How generated files are written, and what tells that something has changed."""

import hashlib
import os
from pathlib import Path


def write(path: Path, text: str) -> None:
    """Write the file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, "utf-8", newline="")
    os.replace(partial, path)


def digest(*parts: bytes) -> str:
    """A text that is another where any of the parts is."""
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
