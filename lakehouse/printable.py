"""Makes vendors' text safe for a terminal: characters that would move the cursor, change colours or reorder letters are
escaped.
"""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    r"""The text with every character that isn't printed written as Python does (`\n`, `\x1b`, `\u202e`), apart from
    those to `keep`.

    Besides C0 and C1 control characters (a terminal's commands begin with them) these are invisible ones, such as
    those that turn the direction of writing.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in keep else letter.encode("unicode_escape").decode()
        for letter in text
    )
