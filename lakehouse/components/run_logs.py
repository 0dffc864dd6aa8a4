"""The log of runs: on the screen from a level on, and as JSON lines in a file with run, source and sessions."""

import logging
from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._utils.log import create_console_logger

from lakehouse.components.sources.run_tags import tagged_span
from lakehouse.components.sources.sensor import SOURCE_TAG
from lakehouse.logs import CONTEXT, log_to_file
from lakehouse.settings import settings

_SCHEMA = {
    "log_level": dg.Field(str, is_required=False, description="Level from which on lines are on the screen."),
    "name": dg.Field(str, default_value="dagster", description="Name of the logger."),
}


@dg.logger(config_schema=_SCHEMA, description="Lines on the screen, and in LAKEHOUSE_LOG_FILE.")
def run_log(init_context: dg.InitLoggerContext) -> logging.Logger:
    """The logger of a run. By Dagster's own default, lines for debugging are on the screen, too."""
    config = settings()
    logger = create_console_logger(
        init_context.logger_config["name"], init_context.logger_config.get("log_level", config.log_level)
    )
    if config.log_file is not None:
        logger.addFilter(_add_context)
        log_to_file(logger, config.log_file, config.log_level, config.log_file_bytes, config.log_files_kept)
    return logger


def _add_context(record: logging.LogRecord) -> bool:
    """Takes what Dagster notes in a record to where the file's lines have it, and lets the record pass."""
    noted: Mapping[str, Any] = getattr(record, "dagster_meta", {})
    tags = noted.get("job_tags") or {}
    step = noted.get("step_key")
    span = tagged_span(tags)
    found = {
        "run": noted.get("run_id"),
        "job": noted.get("job_name"),
        "step": step,
        "source": tags.get(SOURCE_TAG) or (step.partition("__")[0] if step and "__" in step else None),
        "session": str(span[0]) if span else None,
        "last_session": str(span[1]) if span and span[1] != span[0] else None,
    }
    setattr(record, CONTEXT, {name: value for name, value in found.items() if value is not None})
    return True
