"""Once a person is erased, nothing leads to the person, and all that was computed stays as it is."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from assets_tests.integration.test_pseudonyms_in_lake import contents, feed, put_lines, rows, run, take
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.derive.rebuild import rebuild
from lakehouse.governance.publish_roles import publish_roles
from lakehouse.settings import settings

__all__ = ("feed",)
SUMS = """
    SELECT customer_id, sum(amount), sum(quantity), count(*) FROM retail.sale_lines GROUP BY ALL ORDER BY ALL
"""
ROLES = """
roles:
  - {role: cleared, tables: [{table: retail.sale_lines, clear: [customer_id]}]}
  - {role: masked, tables: [{table: retail.sale_lines}]}
"""


def of_role(name: str) -> list[tuple[Any, ...]]:
    found = Lake.open(role=name).sql(SUMS)
    assert found is not None
    return found.fetchall()


def test_erase__leaves_sums_and_nothing_that_leads_to_the_person(feed: Path) -> None:
    put_lines(feed)
    run("create-key")
    take()
    settings().roles_file.write_text(ROLES)
    publish_roles(Lake.open(), settings())
    moment, sums = datetime.now(UTC), rows(SUMS)
    of_roles = {name: of_role(name) for name in ("cleared", "masked")}
    pseudonym = run("show", "17850").strip().partition(",")[2]
    assert of_roles["cleared"] == sums
    assert pseudonym in {customer for customer, *_ in sums}

    run("erase", "17850", "--yes")

    assert pseudonym in run("reveal", pseudonym, code=4)
    assert rows(SUMS) == sums
    then = Lake.open(as_of=moment).sql(SUMS)
    assert then is not None
    assert then.fetchall() == sums
    assert all(not done.made for done in publish_roles(Lake.open(), settings()))
    assert {name: of_role(name) for name in of_roles} == of_roles
    rebuild(Lake.open(), described_source("retail"))
    assert rows(SUMS) == sums
    # The key map is in the home; what the shop publishes is outside.
    assert b"17850" not in contents(settings().home)
