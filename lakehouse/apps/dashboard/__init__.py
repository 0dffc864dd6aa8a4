"""The dashboard: pages over the lake and its published marts, which they only read.

`server` answers requests, `pages` has one module a page, `templates` and `static` what a browser gets. The decision for
pages made on the server is docs/decisions/0021-dashboard.md.
"""
