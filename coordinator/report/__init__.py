"""The report: one offline HTML page made from the contents of result.json.

Tables and sentences are written here, so that they can be read without scripts; the figures are drawn in the page, from
the result that is embedded in it. All that came from the result passes `escaped` or `_json` on its way in, and the
page's security policy lets only its own two scripts run and forbids every request.
"""

from coordinator.report.page import render_report, write_report

__all__ = ["render_report", "write_report"]
