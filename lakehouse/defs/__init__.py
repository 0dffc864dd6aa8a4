"""Orchestration only: one folder per domain, one `defs.yaml` per vendor. The code is in `lakehouse.components` and the
packages below.
"""
