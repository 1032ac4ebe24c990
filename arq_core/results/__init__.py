"""Rows, and what they say: records, provenance, tables, verdicts, statistics. It knows neither
torch nor Sphinx.

Reading order: rows, records, provenance, paper, tables, totals, verdicts, export, crate;
bootstrap, significance, aggregates, regressions.
"""
