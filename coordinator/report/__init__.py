"""The report: one offline HTML page made from the contents of result.json.

The modules here compute what the page says as plain data; templates/ holds its HTML, style and script. Tables and
sentences can be read without scripts; the figures are drawn in the page, from the result that is embedded in it.
"""

from coordinator.report.page import render_report, write_report

__all__ = ["render_report", "write_report"]
