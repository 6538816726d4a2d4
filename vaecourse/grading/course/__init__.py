"""A class in a folder: `settings`, `intake` of what was handed in, `grade`, the `gradebook`, and `reports` for people."""
