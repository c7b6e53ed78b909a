"""Structured logs: one JSON object a line, or colours on a terminal. The door to structlog.

No prompt text and no secret is ever passed here: callers log ids, codes and counts.
"""

from __future__ import annotations

import logging
import sys

import structlog

Logger = structlog.typing.FilteringBoundLogger


def get(component: str) -> Logger:
    """A logger that names its component in each line."""
    logger: Logger = structlog.get_logger(component=component)
    return logger


def configure(*, level: str = "info", pretty: bool | None = None) -> None:
    """Sets the process's logging once, to standard error. `level`: debug, info, warning or error."""
    on_terminal = sys.stderr.isatty() if pretty is None else pretty
    renderer = structlog.dev.ConsoleRenderer() if on_terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
