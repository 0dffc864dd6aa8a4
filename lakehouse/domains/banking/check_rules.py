"""What the bank's checks look for: queries of offending rows over relations of the tables."""

from __future__ import annotations

from lakehouse.lake.sql import Query, Relation


def unbalanced(entry: Relation, account: Relation) -> Query:
    """Transactions whose entries don't sum to zero in a currency."""
    return Query(f"""
        SELECT entry.transaction_id, account.currency, sum(entry.amount) AS total
        FROM {entry} AS entry LEFT JOIN {account} AS account ON account.id = entry.account_id
        GROUP BY ALL HAVING sum(entry.amount) <> 0
    """)


def other_balances(account: Relation, entry: Relation) -> Query:
    """Accounts whose balance isn't the sum of their entries."""
    return Query(f"""
        SELECT account.id, account.number, account.balance, coalesce(moved.total, 0) AS entries
        FROM {account} AS account LEFT JOIN (
            SELECT account_id, sum(amount) AS total FROM {entry} GROUP BY account_id
        ) AS moved ON moved.account_id = account.id
        WHERE account.balance <> coalesce(moved.total, 0)
    """)


def below_minimum(account: Relation) -> Query:
    """Accounts that aren't closed and have less available than their own minimum, or else their customer's."""
    return Query(f"""
        SELECT id, number, balance, held, coalesce(minimum_balance, customer_minimum) AS minimum FROM {account}
        WHERE status_id <> 4 AND balance - held < coalesce(minimum_balance, customer_minimum)
    """)


def broken_days(balances: Relation) -> Query:
    """Days of accounts that don't begin with the balance of the day before, or lack that day."""
    return Query(f"""
        SELECT account_id, day, opening_balance, before FROM (
            SELECT account_id, day, opening_balance,
                lag(balance) OVER of_account AS before, lag(day) OVER of_account AS day_before
            FROM {balances} WINDOW of_account AS (PARTITION BY account_id ORDER BY day)
        ) WHERE (day_before IS NULL AND opening_balance <> 0) OR before <> opening_balance OR day - day_before <> 1
    """)
