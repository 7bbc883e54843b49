"""Results for people: the table in the terminal and the page `report.html`."""

from __future__ import annotations

from polytask.report.page import page_of, report
from polytask.report.table import plain_table, terminal_table

__all__ = ["page_of", "plain_table", "report", "terminal_table"]
