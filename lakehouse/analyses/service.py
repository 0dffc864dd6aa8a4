"""The analyses of an installation: those that are described by `defs.yaml` files, and those in the lake's tables.

All faces use it by `lakehouse.api.Lake.analyses`, so that a run at the terminal, in Dagster and in Python is the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lakehouse.analyses import store
from lakehouse.analyses.analysis import Analysis
from lakehouse.analyses.bundle import (
    Verification,
    bundle_text,
    differences_before,
    differences_of_data,
    parse_bundle,
)
from lakehouse.analyses.canonical import sha256_of
from lakehouse.analyses.code import code_version
from lakehouse.analyses.exploring import look_ahead, shortened, sweep_row, variants
from lakehouse.analyses.limited import Limits, Outcome, Request, run_limited
from lakehouse.analyses.registry import Registry, Task
from lakehouse.analyses.spec import AnalysisError, Definition
from lakehouse.analyses.store import Run
from lakehouse.analyses.validation import require_valid, validate
from lakehouse.analyses.values import figures, fingerprint, kind_of, plain
from lakehouse.errors import did_you_mean
from lakehouse.lake.lake import Lake

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Finished:
    """A run and the values that it made."""

    run: Run
    made: Mapping[str, Any]


class Analyses:
    """The analyses of a lake.

    Args:
        described: the definitions of defs.yaml files, by name.
        reopen: opens the same lake in another process; picklable.
        tasks: registered besides the installed ones; their functions must be importable.
    """

    def __init__(
        self,
        lake: Lake,
        described: Mapping[str, Definition],
        reopen: Callable[[], Lake],
        tasks: Iterable[Task] = (),
    ) -> None:
        self.lake = lake
        self.described = described
        self._reopen = reopen
        self._tasks = tuple(tasks)
        self.registry = Registry.installed().extended(self._tasks)

    def with_tasks(self, tasks: Iterable[Task]) -> Analyses:
        """The same, with further tasks."""
        return Analyses(self.lake, self.described, self._reopen, (*self._tasks, *tasks))

    def all(self) -> list[Definition]:
        """The definitions, by name: those of the defs.yaml files, of others the newest version in the lake, and
        imported versions that differ from these.
        """
        stored = store.definitions(self.lake)
        present = {definition.name: definition for definition in stored} | dict(self.described)
        imported = [each for each in stored if each.imported_from and each.version != present[each.name].version]
        return sorted([*present.values(), *imported], key=lambda definition: definition.name)

    def get(self, name: str) -> Definition:
        """The definition of a name, or of `name@version` with at least the first 6 characters of the version.

        Raises:
            AnalysisError: there is none.
        """
        named, _, version = name.partition("@")
        if not version and named in self.described:
            return self.described[named]
        of_name = [each for each in store.definitions(self.lake) if each.name == named]
        if named in self.described:
            of_name.append(self.described[named])
        if not of_name:
            known = list(dict.fromkeys(each.name for each in self.all()))
            raise AnalysisError(
                f"no analysis is called '{named}'{did_you_mean(named, known)}; there is {', '.join(known) or 'none'}"
            )
        if not version:
            return of_name[-1]
        found = {each.version: each for each in of_name if len(version) >= 6 and each.version.startswith(version)}
        if len(found) != 1:
            versions = ", ".join(dict.fromkeys(each.version[:12] for each in of_name))
            raise AnalysisError(f"{named} has no version '{version}'; it has {versions}")
        return next(iter(found.values()))

    def analysis(self, name: str) -> Analysis:
        """The analysis of a name, to be shown or stepped through in this process."""
        return Analysis(self.get(name), self.registry)

    def add(self, definition: Definition) -> bool:
        """Stores a definition in the lake; returns whether this version of it is new.

        Raises:
            InvalidAnalysis: it has faults.
        """
        require_valid(definition, self.registry, {*definition.inputs, *definition.input_keys})
        return store.record_definition(self.lake, definition)

    def run(
        self,
        analysis: str | Definition,
        inputs: Mapping[str, Any] | None = None,
        *,
        limits: Limits | None = None,
    ) -> Finished:
        """Runs an analysis in a child process, as of the lake's moment, and stores it.

        Args:
            inputs: values of input keys, instead of those of the definition.

        Raises:
            InvalidAnalysis: it has faults; nothing was run.
            AnalysisError: a task failed, or a limit was reached. The failed run is stored, too.
        """
        request = self.request(analysis, inputs, limits=limits)
        store.record_definition(self.lake, request.definition)
        started = time.monotonic()
        try:
            (outcome,) = run_limited([request])
        except AnalysisError as error:
            outcome = Outcome(error=str(error))
        seconds = time.monotonic() - started
        finished = Finished(self.run_of(request, outcome, seconds), outcome.made)
        store.record_run(self.lake, finished.run, finished.made)
        if outcome.error is not None:
            raise AnalysisError(outcome.error)
        return finished

    def request(
        self,
        analysis: str | Definition,
        inputs: Mapping[str, Any] | None = None,
        *,
        limits: Limits | None = None,
    ) -> Request:
        """The run of a valid analysis on its inputs.

        Raises:
            AnalysisError: it has faults, or an input that it doesn't use.
        """
        definition = self.get(analysis) if isinstance(analysis, str) else analysis
        known = dict.fromkeys([*definition.inputs, *definition.input_keys])
        for key in inputs or {}:
            if key not in known:
                raise AnalysisError(
                    f"{definition.name} has no input '{key}'{did_you_mean(key, known)}; it has "
                    f"{', '.join(dict.fromkeys(known)) or 'none'}"
                )
        values = {**definition.inputs, **(inputs or {})}
        require_valid(definition, self.registry, values)
        return Request(definition, values, self._reopen, self._tasks, limits=limits or Limits())

    def run_of(self, request: Request, outcome: Outcome, seconds: float) -> Run:
        """What is stored of a run."""
        definition = request.definition
        inputs, readings = plain(request.data), [reading.as_dict() for reading in outcome.readings]
        waiting = [row.order for place, row in definition.in_order if place not in outcome.states]
        following = waiting[0] if waiting and outcome.error is None else None
        steps = [
            {
                "row": place + 1,
                "function": str(self.registry.get(row.func_path)),
                "code_version": code_version(self.registry.get(row.func_path), row.kwargs),
                "state": outcome.states.get(place, "next" if row.order == following else "waiting"),
                "seconds": round(outcome.seconds.get(place, 0.0), 6),
            }
            for place, row in enumerate(definition.rows)
        ]
        outputs = {
            key: {"kind": kind_of(value), "fingerprint": fingerprint(value), "figures": plain(figures(value))}
            for key, value in outcome.made.items()
        }
        what = {
            "version": definition.version,
            "inputs": inputs,
            "code": [step["code_version"] for step in steps],
            "data": [reading["fingerprint"] for reading in readings],
            "outputs": {key: about["fingerprint"] for key, about in outputs.items()},
        }
        failed = outcome.error is not None
        return Run(
            name=definition.name,
            version=definition.version,
            inputs=inputs,
            as_of=self.lake.as_of,
            status="failed" if failed else "done",
            error=outcome.error,
            outputs=outputs,
            steps=steps,
            readings=readings,
            seconds=seconds,
            result_id=None if failed else sha256_of(what),
            run_id=store.new_run_id(),
            recorded_at=datetime.now(UTC),
        )

    def step(
        self,
        name: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        until: int | None = None,
        limits: Limits | None = None,
    ) -> tuple[Run, Mapping[str, Any]]:
        """Runs an analysis up to an order, and stores nothing. The run says which rows are done, failed or next."""
        request = replace(self.request(name, inputs, limits=limits), until_order=until)
        (outcome,) = run_limited([request])
        return self.run_of(request, outcome, sum(outcome.seconds.values())), outcome.made

    def sweep(
        self,
        name: str,
        over: Mapping[str, Sequence[Any]],
        inputs: Mapping[str, Any] | None = None,
        *,
        limits: Limits | None = None,
    ) -> list[dict[str, Any]]:
        """Runs an analysis for all combinations of values, and stores nothing. Returns a row for each: what was chosen,
        and the numbers that came out, or else the last values of the series. The limits are those of all together.

        Args:
            over: an input such as `ticker`, or `key.keyword` such as `longSMA.window` -> its values.

        Raises:
            AnalysisError: there is no such input or keyword, or there are too many combinations.
        """
        found = variants(self.get(name), inputs or {}, over)
        if not found:
            return []
        requests = [
            replace(self.request(each.definition, each.inputs, limits=limits), only_figures=True) for each in found
        ]
        return [sweep_row(each, outcome) for each, outcome in zip(found, run_limited(requests), strict=True)]

    def look_ahead(
        self, name: str, inputs: Mapping[str, Any] | None = None, *, limits: Limits | None = None
    ) -> list[str]:
        """What of an analysis depends on data that weren't known yet; runs it on data that end earlier.

        Raises:
            AnalysisError: it fails on the whole data.
        """
        request = self.request(name, inputs, limits=limits)
        (whole,) = run_limited([request])
        if whole.error is not None:
            raise AnalysisError(whole.error)
        cut = shortened(request, whole)
        if not cut:
            raise AnalysisError(f"{name} makes no series with values over dates, so there is nothing to check")
        return list(look_ahead(whole, list(zip(cut, run_limited(cut), strict=True))))

    def export(self, name: str) -> str:
        """The bundle of an analysis and its newest successful run.

        Raises:
            AnalysisError: it has no such run.
        """
        definition = self.get(name)
        done = [
            run
            for run in store.runs(self.lake, definition.name)
            if run.status == "done" and run.version == definition.version
        ]
        if not done:
            raise AnalysisError(
                f"{name} has no successful run of version {definition.version[:12]}; run it by `lakehouse analyses run "
                f"{name}`"
            )
        return bundle_text(definition, done[-1], self.registry)

    def verify(self, text: str, *, limits: Limits | None = None) -> Verification:
        """Runs a bundle's analysis on this lake, and compares it with the sender's run. Stores nothing.

        Raises:
            AnalysisError: the text is no bundle.
        """
        bundle = parse_bundle(text)
        found = list(differences_before(bundle, self.registry))
        faults = validate(bundle.definition, self.registry)
        made: dict[str, str] = {}
        if faults:
            found += map(str, faults)
        else:
            (outcome,) = run_limited([self.request(bundle.definition, limits=limits)])
            found += differences_of_data(bundle, [reading.as_dict() for reading in outcome.readings])
            found += [outcome.error] if outcome.error is not None else []
            made = {key: fingerprint(value) for key, value in outcome.made.items()}
        keys = [key for key in bundle.definition.output_keys if key in bundle.outputs or key in made]
        keys += [key for key in bundle.outputs if key not in keys]
        equal = tuple(key for key in keys if made.get(key) == bundle.outputs.get(key))
        return Verification(tuple(found), equal, tuple(key for key in keys if key not in equal))

    def runs(self, name: str | None = None) -> list[Run]:
        """The stored runs (of an analysis), oldest first."""
        return store.runs(self.lake, name)

    def results(self, name: str, key: str, run_id: str | None = None) -> pl.DataFrame:
        """The stored rows of an output key of the newest successful run, or of a run: position, date, value, fields.

        Raises:
            AnalysisError: there is no such run or key.
        """
        self.get(name)
        if run_id is None:
            return store.results(self.lake, store.last_run(self.lake, name.partition("@")[0]), key)
        for run in store.runs(self.lake, name.partition("@")[0]):
            if run.run_id == run_id and run.status == "done":
                return store.results(self.lake, run, key)
        raise AnalysisError(f"{name} has no successful run {run_id!r}; `lakehouse sql 'FROM analyses.runs'` lists them")
