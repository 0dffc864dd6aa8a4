"""Real servers on 127.0.0.1 for the tests, each a context manager that ends everything it started.

Belongs here: starting, asking and stopping servers. The fixtures that share them are in `conftest.py`.
"""

from __future__ import annotations
