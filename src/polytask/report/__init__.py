"""Results for people: the table in the terminal and the page `report.html`."""

from __future__ import annotations

from polytask.report.page import report
from polytask.report.table import plain_table, terminal_table

__all__ = ["plain_table", "report", "terminal_table"]
