"""What a run shows to people: an HTML report, a model card, and tables for the terminal."""

from et_core.report.card import write_card
from et_core.report.data import ReportData
from et_core.report.html import write_report
from et_core.report.tables import metrics_table

__all__ = ["ReportData", "metrics_table", "write_card", "write_report"]
