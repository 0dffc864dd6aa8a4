"""`lakehouse dev` as people run it (webserver, daemon, code servers), driven by the requests that its UI sends.

Belongs here: starting and ending it, launching, waiting, and figures of its pages. What a run should have
done to the lake is asserted in the tests.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

from assets_tests.support.patience import RUN_PATIENCE_S
from assets_tests.support.servers import browser
from assets_tests.support.servers.process import (
    ServerError,
    ServerProcess,
    WhileEntered,
    free_port,
    log_tail,
)

RUN_ENDED = {"SUCCESS", "FAILURE", "CANCELED"}
BACKFILL_ENDED = {"COMPLETED_SUCCESS", "COMPLETED_FAILED", "COMPLETED", "FAILED", "CANCELED"}

# The implicit job that the UI launches when assets are materialized by hand.
ASSET_JOB = "__ASSET_JOB"


class LakehouseDev(WhileEntered):
    """`lakehouse dev` on a free port of 127.0.0.1, running while the `with` block does.

    Args:
        project: the working directory of the server.
        home: LAKEHOUSE_HOME, made if it is absent.
        env: the rest of the server's environment.
        start_timeout: seconds until GraphQL must answer with every code location loaded.

    Attributes:
        url: of the UI.
        log: file of everything that the server and its children print.

    Raises (on entering):
        ServerError: it ended, did not answer in time, or a code location failed to load.
    """

    def __init__(
        self,
        project: Path,
        *,
        home: Path,
        env: Mapping[str, str],
        start_timeout: float = RUN_PATIENCE_S,
    ) -> None:
        self._project = project
        self._start_timeout = start_timeout
        self._env = {**env, "LAKEHOUSE_HOME": str(home)}
        self._home = home
        self.log = home / "lakehouse-dev.log"
        self.url = ""

    def _enter(self, started: ExitStack) -> None:
        self._home.mkdir(parents=True, exist_ok=True)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [str(Path(sys.executable).with_name("lakehouse")), "dev", "--port", str(port)]
        process = ServerProcess(command, log=self.log, env=self._env, cwd=self._project)
        started.callback(process.stop, grace=15)
        process.wait_until(self._is_loaded, timeout=self._start_timeout, what="answer to GraphQL")

    def graphql(self, query: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The `data` of the answer to a GraphQL request.

        Raises:
            ServerError: the request is refused or has errors.
            OSError: the server can't be reached.
        """
        body = json.dumps({"query": query, "variables": dict(variables or {})}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", data=body, headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as refused:
            answer = {"errors": refused.read().decode(errors="replace")}
        if answer.get("errors"):
            raise ServerError(f"GraphQL: {answer['errors']}")
        return answer["data"]

    def materialize(self, *assets: str, partition: str | None = None) -> str:
        """Launch one run of assets (keys as `xetra/daily_bars`), of one partition if given; its id."""
        tags = [{"key": "dagster/partition", "value": partition}] if partition else []
        params = {
            "selector": {
                **self._repository_of(assets[0]),
                "pipelineName": ASSET_JOB,
                "assetSelection": [_key(asset) for asset in assets],
            },
            "mode": "default",
            "runConfigData": "{}",
            "executionMetadata": {"tags": tags},
        }
        success = "... on LaunchRunSuccess { run { runId } }"
        invalid = "... on RunConfigValidationInvalid { errors { message } }"
        kind = "ExecutionParams!"
        launched = self._mutate("launchPipelineExecution", "executionParams", kind, params, success + invalid)
        return launched["run"]["runId"]

    def backfill(self, *assets: str, partitions: Sequence[str]) -> str:
        """Launch a backfill of assets over partitions, as the UI's dialog does; returns its id."""
        params = {
            "assetSelection": [_key(asset) for asset in assets],
            "partitionNames": list(partitions),
            "fromFailure": False,
            "tags": [],
        }
        success = "... on LaunchBackfillSuccess { backfillId }"
        kind = "LaunchBackfillParams!"
        launched = self._mutate("launchPartitionBackfill", "backfillParams", kind, params, success)
        return launched["backfillId"]

    def start_sensor(self, name: str) -> None:
        """Turn a sensor on."""
        for node in self._repositories():
            if name in {sensor["name"] for sensor in node["sensors"]}:
                selector = {**_selector(node), "sensorName": name}
                self._mutate("startSensor", "sensorSelector", "SensorSelector!", selector, "... on Sensor { name }")
                return
        raise ServerError(f"no sensor is named {name}")

    def partitions(self, asset: str) -> list[str]:
        """The partition keys of an asset, in order."""
        data = self.graphql(
            """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) {
                ... on AssetNode { partitionKeys }
            } }""",
            {"key": _key(asset)},
        )
        return data["assetNodeOrError"]["partitionKeys"]

    def runs(self, **run_filter: Any) -> list[dict[str, Any]]:
        """Runs, newest first, with runId, status and tags; `run_filter` as GraphQL's RunsFilter has it."""
        data = self.graphql(
            """query($filter: RunsFilter!) { runsOrError(filter: $filter) {
                ... on Runs { results { runId status tags { key value } } }
                ... on PythonError { message }
            } }""",
            {"filter": run_filter},
        )
        return data["runsOrError"]["results"]

    def wait_for_run(self, run_id: str, *, timeout: float = RUN_PATIENCE_S) -> str:
        """The status in which a run ended: SUCCESS, FAILURE or CANCELED.

        Raises:
            ServerError: it has not ended after `timeout` seconds; with the end of the log.
        """
        query = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } ... on Error { message } } }"
        return self._wait(
            lambda: self.graphql(query, {"id": run_id})["runOrError"], RUN_ENDED, f"run {run_id}", timeout
        )

    def wait_for_backfill(self, backfill_id: str, *, timeout: float = RUN_PATIENCE_S) -> str:
        """The status in which a backfill ended; COMPLETED_SUCCESS when all its runs succeeded.

        Dagster's daemon looks at backfills every 30 s: one takes up to that to start, and again to be ended.

        Raises:
            ServerError: it has not ended after `timeout` seconds; with the end of the log.
        """
        query = """query($id: String!) { partitionBackfillOrError(backfillId: $id) {
            ... on PartitionBackfill { status error { message } } ... on Error { message } } }"""
        return self._wait(
            lambda: self.graphql(query, {"id": backfill_id})["partitionBackfillOrError"],
            BACKFILL_ENDED,
            f"backfill {backfill_id}",
            timeout,
        )

    def wait_for_sensor_run(self, sensor: str, *, timeout: float = RUN_PATIENCE_S) -> str:
        """The id of the newest run that a sensor has requested, as soon as there is one.

        Raises:
            ServerError: there is none after `timeout` seconds; with the end of the log.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if runs := self.runs(tags=[{"key": "dagster/sensor_name", "value": sensor}]):
                return runs[0]["runId"]
            time.sleep(0.5)
        raise ServerError(f"{sensor} requested no run within {timeout} s\n{log_tail(self.log)}")

    def failures(self, run_id: str) -> list[str]:
        """What made a run fail, each message once, causes last; for a test's error message."""
        data = self.graphql(
            """query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
                ... on RunFailureEvent { message error { ...chain } }
                ... on ExecutionStepFailureEvent { message error { ...chain } }
            } } } }
            fragment chain on PythonError { message causes { message } }""",
            {"id": run_id},
        )
        messages = []
        for event in data["logsForRun"]["events"]:
            if error := event.get("error"):
                messages += [error["message"], *(cause["message"] for cause in error["causes"])]
            elif "message" in event:
                messages.append(event["message"])
        return list(dict.fromkeys(messages))

    def screenshot(self, path: str, png: Path, *, wait_for: str) -> Path:
        """A picture of a page of the UI (`/assets/prices?view=partitions`); see `browser.screenshot`."""
        # A new DAGSTER_HOME is greeted by a dialog that would cover the page.
        self.graphql("mutation { setNuxSeen }")
        return browser.screenshot(f"{self.url}{quote(path, safe='/?=&%@')}", png, wait_for=wait_for)

    def _is_loaded(self) -> bool:
        entries = self.graphql("""{ workspaceOrError { ... on Workspace { locationEntries {
            name loadStatus
            locationOrLoadError { __typename ... on PythonError { message causes { message } } }
        } } } }""")["workspaceOrError"]["locationEntries"]
        for entry in entries:
            if (loaded := entry["locationOrLoadError"]) and loaded["__typename"] == "PythonError":
                why = "".join([loaded["message"], *(cause["message"] for cause in loaded["causes"])])
                raise ServerError(f"code location {entry['name']}: {why}\n{log_tail(self.log)}")
        return bool(entries) and all(entry["loadStatus"] == "LOADED" for entry in entries)

    def _repositories(self) -> list[dict[str, Any]]:
        return self.graphql("""{ repositoriesOrError { ... on RepositoryConnection { nodes {
            name location { name } sensors { name }
        } } } }""")["repositoriesOrError"]["nodes"]

    def _repository_of(self, asset: str) -> dict[str, str]:
        data = self.graphql(
            """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) {
                ... on AssetNode { repository { name location { name } } }
            } }""",
            {"key": _key(asset)},
        )
        if "repository" not in data["assetNodeOrError"]:
            raise ServerError(f"no asset has the key {asset}")
        return _selector(data["assetNodeOrError"]["repository"])

    def _mutate(self, field: str, argument: str, kind: str, value: Any, on_success: str) -> dict[str, Any]:
        """Send a mutation; an answer of a type that `on_success` doesn't fill is an error."""
        query = f"""mutation($value: {kind}) {{ {field}({argument}: $value) {{
            __typename {on_success} ... on Error {{ message }}
        }} }}"""
        answer = self.graphql(query, {"value": value})[field]
        if "message" in answer or "errors" in answer:
            raise ServerError(f"{field}: {answer}")
        return answer

    def _wait(self, ask: Callable[[], dict[str, Any]], ended: set[str], what: str, timeout: float) -> str:
        deadline = time.monotonic() + timeout
        while True:
            answer = ask()
            if "status" not in answer:
                raise ServerError(f"{what}: {answer}")
            if answer["status"] in ended:
                return answer["status"]
            if time.monotonic() > deadline:
                raise ServerError(f"{what} is {answer['status']} after {timeout} s\n{log_tail(self.log)}")
            time.sleep(0.25)


def _key(asset: str) -> dict[str, list[str]]:
    return {"path": asset.split("/")}


def _selector(repository: Mapping[str, Any]) -> dict[str, str]:
    return {"repositoryName": repository["name"], "repositoryLocationName": repository["location"]["name"]}
