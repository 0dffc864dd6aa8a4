"""Writes docs/reference from the code: `python -m scripts.reference`. A test fails while the files say something else.

One module per page or group of pages, each with a function `pages() -> {file name: text}`.
"""
