"""How an API takes several questions in one POST request: where they are in the body, and where the answers are in the
response.

OpenFIGI is one such API: the body of https://api.openfigi.com/v3/mapping is an array of jobs, and the response an array
with one element per job, `{"data": [...]}` or `{"warning": "No identifier found."}`. PermID's record matching is
another: https://api-eit.refinitiv.com/permid/match takes CSV, and each match refers to the record that it is for.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from lakehouse.ingest.json_lines import at
from lakehouse.ingest.strict import Strict


class Reference(Strict):
    """How a record of a response says which question it answers."""

    question: str = Field(description="Parameter of a question that is its own.")
    answer: str = Field(description="Member of a record that repeats it.")


class Batch(Strict):
    """Questions are sent in batches, as JSON or CSV in a POST request. The response has one answer per question, in
    their order; or records that refer to their questions, of which there may be none or several each.
    """

    size: int = Field(ge=1, description="Most questions in a request.")
    questions: str | None = Field(
        None, min_length=1, description="Member of the body with the array of questions; unset: the body is the array."
    )
    answers: str = Field(
        "", description="Path of the array of answers, such as results; empty: the response is the array."
    )
    csv: bool = Field(False, description="The body is CSV: a heading of the parameters, and a row per question.")
    refers: Reference | None = Field(None, description="How records refer to questions; unset: by their order.")
    headers: dict[str, str] = Field({}, description="Headers of the request.")
    empty_members: tuple[str, ...] = Field(
        (), description="Members of an answer which say that there are no records for its question."
    )

    def body(self, questions: Sequence[Mapping[str, str]]) -> bytes:
        """The JSON or CSV that asks some questions."""
        asked = [dict(question) for question in questions]
        if self.csv:
            rows = io.StringIO()
            writer = csv.DictWriter(rows, list(dict.fromkeys(name for question in asked for name in question)))
            writer.writeheader()
            writer.writerows(asked)
            return rows.getvalue().encode()
        return json.dumps(asked if self.questions is None else {self.questions: asked}).encode()

    @property
    def sent_headers(self) -> dict[str, str]:
        """The headers of the request."""
        return {"Content-Type": "text/plain" if self.csv else "application/json", **self.headers}

    def answers_in(self, document: Any, questions: Sequence[Mapping[str, str]]) -> list[Any] | None:
        """The answers in a response, which should be as many as the questions; None if it has no array of them."""
        found = at(document, self.answers)
        if not isinstance(found, list):
            return None
        if self.refers is None:
            return found
        by_reference: dict[str, list[Any]] = {question[self.refers.question]: [] for question in questions}
        for record in found:
            named = str(record.get(self.refers.answer)) if isinstance(record, dict) else ""
            if named not in by_reference:
                return None
            by_reference[named].append(record)
        return [by_reference[question[self.refers.question]] for question in questions]

    def records_in(self, answer: Any, path: str) -> list[Any] | None:
        """The records in the answer to one question, an array or a single object at `path`; None if it has none of
        these.
        """
        found = at(answer, path)
        if isinstance(found, list):
            return found
        if isinstance(answer, dict) and any(answer.get(member) for member in self.empty_members):
            return []
        return [found] if isinstance(found, dict) else None
