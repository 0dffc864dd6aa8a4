"""Analyses as data: workflows that are tables of tasks, which are validated, run, stored and handed over.

The package knows the lake and nothing of a domain. `lakehouse.api.Lake.analyses` is how people and the other faces use
it; `Analysis` works without a lake.
"""

from lakehouse.analyses.analysis import Analysis as Analysis
from lakehouse.analyses.registry import Task as Task
from lakehouse.analyses.registry import Tasks as Tasks
from lakehouse.analyses.spec import AnalysisError as AnalysisError
from lakehouse.analyses.spec import Fault as Fault
from lakehouse.analyses.spec import InvalidAnalysis as InvalidAnalysis
