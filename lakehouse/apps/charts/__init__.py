"""Interactive charts, drawn in a browser by `static/chart.js`: what they draw, and pages that hold them.

Charts as pictures belong in `lakehouse.cli.plot`, reading the bars in `lakehouse.domains.market.bars.chart`.
"""
