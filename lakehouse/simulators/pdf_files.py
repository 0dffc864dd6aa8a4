"""Small PDF files, made without a library: text, page by page, or a page without text as a scanner makes it."""

from __future__ import annotations

from collections.abc import Sequence

_LINE_CHARACTERS = 80


def pdf(pages: Sequence[str]) -> bytes:
    """A PDF file whose pages show these texts (ASCII)."""
    count = len(pages)
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(count))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {count} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, text in enumerate(pages):
        content = _content(text)
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {5 + 2 * number} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        objects.append(f"<< /Length {len(content)} >>\nstream\n{content}\nendstream")
    made, places = "%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(made))
        made += f"{number} 0 obj\n{body}\nendobj\n"
    start = len(made)
    made += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n"
    made += "".join(f"{place:010d} 00000 n \n" for place in places)
    made += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n"
    return made.encode("ascii")


def _content(text: str) -> str:
    if not text:
        return "0 0 595 842 re S"
    lines, line = [], ""
    for word in text.split():
        if len(line) + len(word) >= _LINE_CHARACTERS:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    escaped = [each.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)") for each in (*lines, line)]
    return "BT /F1 10 Tf 12 TL 40 800 Td " + " ".join(f"({each}) Tj T*" for each in escaped) + " ET"
