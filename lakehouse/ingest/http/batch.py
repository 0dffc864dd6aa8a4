"""How an API takes several questions in one POST request: where they are in the body, and where the answers are in the
response.

OpenFIGI is one such API: the body of https://api.openfigi.com/v3/mapping is an array of jobs, and the response an array
with one element per job, `{"data": [...]}` or `{"warning": "No identifier found."}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from lakehouse.ingest.json_lines import at
from lakehouse.ingest.strict import Strict


class Batch(Strict):
    """Questions are sent in batches, as JSON in a POST request; the response has one answer per question, in their
    order.
    """

    size: int = Field(ge=1, description="Most questions in a request.")
    questions: str | None = Field(
        None, min_length=1, description="Member of the body with the array of questions; unset: the body is the array."
    )
    answers: str = Field(
        "", description="Path of the array of answers, such as results; empty: the response is the array."
    )
    empty_members: tuple[str, ...] = Field(
        (), description="Members of an answer which say that there are no records for its question."
    )

    def body(self, questions: Sequence[Mapping[str, str]]) -> bytes:
        """The JSON that asks some questions."""
        asked = [dict(question) for question in questions]
        return json.dumps(asked if self.questions is None else {self.questions: asked}).encode()

    def answers_in(self, document: Any) -> list[Any] | None:
        """The answers in a response; None if it has no array of them."""
        found = at(document, self.answers)
        return found if isinstance(found, list) else None

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
