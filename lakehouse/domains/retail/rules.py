"""The rules of retail: which lines count, their kind, and items, prices, customers and cancellations over time.

Pure functions that make DuckDB queries over relations of their inputs. Nothing is dropped: equal lines of an invoice
are lines, lines without a customer are lines, and every kind of line is kept.
"""

from __future__ import annotations

from lakehouse.derive.revisions import RevisionRule, winners
from lakehouse.lake.sql import Query, Relation

FIELDS = (
    "invoice_no",
    "stock_code",
    "description",
    "quantity",
    "invoiced_at",
    "unit_price",
    "customer_id",
    "country",
)
"""What identifies a line, together with its number among equal lines."""
LINES = RevisionRule(key=FIELDS, content=FIELDS, part="month", equal_rows_count=True)

PROPER = "invoice_no NOT LIKE 'C%' AND invoice_no NOT LIKE 'A%' AND quantity > 0 AND unit_price > 0"
"""The condition of a proper sale: only these say what an item costs and is called."""

KIND = """
    CASE
        WHEN invoice_no LIKE 'C%' THEN 'cancellation'
        WHEN invoice_no LIKE 'A%' THEN 'adjustment'
        WHEN quantity < 0 THEN 'stock_movement'
        WHEN unit_price = 0 THEN 'free'
        ELSE 'sale'
    END
"""
"""The kind of a line, as an SQL expression."""
_KEY_FIELDS = ", ".join(
    f"coalesce({'epoch_us(invoiced_at)::VARCHAR' if name == 'invoiced_at' else f'{name}::VARCHAR'}, chr(30))"
    for name in FIELDS
)


def sale_lines(raw: Relation, ledger: Relation) -> Query:
    """Every line that counts, with its key, kind and amount."""
    return Query(f"""
        SELECT month, md5(concat_ws(chr(31), {_KEY_FIELDS}, occurrence)) AS line_key, day, {", ".join(FIELDS)},
            {KIND} AS kind, (quantity * unit_price)::DECIMAL(18, 4) AS amount
        FROM ({winners(raw, ledger, LINES)})
    """)


def items(lines: Relation) -> Query:
    """The versions of each stock code: its list price and description over time.

    Proper sales say both; of codes that were ever sold to a customer, only lines with a customer. The price of a day is
    that of most lines, of equally many the higher one; the description likewise, in alphabetical order. A version
    begins where either differs from the code's previous day with sales; the first one reaches back to the code's first
    line. A code without a proper sale has one version without a price.
    """
    return Query(f"""
        WITH sales AS (SELECT * FROM {lines} WHERE {PROPER}),
        base AS (
            SELECT * FROM sales
            WHERE customer_id IS NOT NULL
            OR stock_code NOT IN (SELECT stock_code FROM sales WHERE customer_id IS NOT NULL)
        ),
        prices AS (
            SELECT stock_code, day, unit_price FROM base GROUP BY stock_code, day, unit_price
            QUALIFY row_number() OVER (PARTITION BY stock_code, day ORDER BY count(*) DESC, unit_price DESC) = 1
        ),
        texts AS (
            SELECT stock_code, day, description FROM base GROUP BY stock_code, day, description
            QUALIFY row_number() OVER (PARTITION BY stock_code, day ORDER BY count(*) DESC, description) = 1
        ),
        observed AS (
            SELECT stock_code, day, unit_price, description,
                lag(unit_price) OVER days AS price_before, lag(description) OVER days AS description_before,
                row_number() OVER days AS number
            FROM prices JOIN texts USING (stock_code, day) WINDOW days AS (PARTITION BY stock_code ORDER BY day)
        ),
        seen AS (SELECT stock_code, min(day) AS first_day FROM {lines} GROUP BY stock_code),
        versions AS (
            SELECT stock_code, description, unit_price AS list_price,
                CASE WHEN number = 1 THEN first_day ELSE day END AS valid_from
            FROM observed JOIN seen USING (stock_code)
            WHERE number = 1 OR unit_price IS DISTINCT FROM price_before
            OR description IS DISTINCT FROM description_before
            UNION ALL
            SELECT stock_code, spare.description, NULL, first_day FROM seen LEFT JOIN (
                SELECT stock_code, description FROM {lines} WHERE description IS NOT NULL
                GROUP BY stock_code, description
                QUALIFY row_number() OVER (PARTITION BY stock_code ORDER BY count(*) DESC, description) = 1
            ) AS spare USING (stock_code)
            WHERE stock_code NOT IN (SELECT stock_code FROM observed)
        )
        SELECT date_trunc('year', valid_from)::DATE AS year, *,
            lead(valid_from) OVER (PARTITION BY stock_code ORDER BY valid_from) AS valid_to
        FROM versions
    """)


def customers(lines: Relation) -> Query:
    """The versions of each customer: the country of most lines of a day, of every kind, over time; of equally many, the
    first in alphabetical order.
    """
    return Query(f"""
        WITH observed AS (
            SELECT customer_id, day, country FROM {lines} WHERE customer_id IS NOT NULL
            GROUP BY customer_id, day, country
            QUALIFY row_number() OVER (PARTITION BY customer_id, day ORDER BY count(*) DESC, country) = 1
        ),
        versions AS (
            SELECT customer_id, country, day AS valid_from FROM observed
            QUALIFY country IS DISTINCT FROM lag(country) OVER (PARTITION BY customer_id ORDER BY day)
        )
        SELECT date_trunc('year', valid_from)::DATE AS year, *,
            lead(valid_from) OVER (PARTITION BY customer_id ORDER BY valid_from) AS valid_to
        FROM versions
    """)


def item_prices(lines: Relation) -> Query:
    """The runs of days on which an item was sold at a price in a channel."""
    return Query(f"""
        WITH seen AS (
            SELECT stock_code, CASE WHEN customer_id IS NULL THEN 'anonymous' ELSE 'account' END AS channel, unit_price,
                day, count(*) AS line_count, sum(quantity) AS quantity
            FROM {lines} WHERE {PROPER} GROUP BY ALL
        ),
        numbered AS (
            SELECT *, dense_rank() OVER (PARTITION BY stock_code, channel ORDER BY day)
                - row_number() OVER (PARTITION BY stock_code, channel, unit_price ORDER BY day) AS run
            FROM seen
        )
        SELECT date_trunc('year', min(day))::DATE AS year, stock_code, channel, unit_price, min(day) AS first_day,
            max(day) AS last_day, count(*) AS day_count, sum(line_count)::BIGINT AS line_count,
            sum(quantity)::DECIMAL(38, 0) AS quantity
        FROM numbered GROUP BY stock_code, channel, unit_price, run
    """)


def cancellations(lines: Relation) -> Query:
    """Each cancellation with the sale that it most likely cancels, or the reason why none was found."""
    return Query(f"""
        WITH cancelled AS (SELECT * FROM {lines} WHERE kind = 'cancellation'),
        candidates AS (
            SELECT cancelled.line_key, sold.line_key AS sale_line_key, sold.invoiced_at, sold.quantity AS sold,
                -cancelled.quantity AS wanted,
                sold.invoiced_at < cancelled.invoiced_at AS is_earlier,
                sold.unit_price = cancelled.unit_price AS has_price,
                sold.quantity >= -cancelled.quantity AS is_enough
            FROM cancelled JOIN {lines} AS sold USING (customer_id, stock_code) WHERE sold.kind = 'sale'
        ),
        found AS (
            SELECT line_key, sale_line_key FROM candidates WHERE is_earlier AND has_price AND is_enough
            QUALIFY row_number() OVER (
                PARTITION BY line_key ORDER BY sold <> wanted, invoiced_at DESC, sale_line_key
            ) = 1
        ),
        tried AS (
            SELECT line_key, bool_or(is_earlier) AS sold_earlier, bool_or(is_earlier AND has_price) AS at_price
            FROM candidates GROUP BY line_key
        )
        SELECT month, line_key, customer_id, stock_code, sale_line_key, -quantity AS quantity,
            CASE
                WHEN sale_line_key IS NOT NULL THEN NULL
                WHEN customer_id IS NULL THEN 'no customer'
                WHEN sold_earlier IS NULL THEN 'item never sold to the customer'
                WHEN NOT sold_earlier THEN 'not sold before'
                WHEN NOT at_price THEN 'another price'
                ELSE 'fewer units sold'
            END AS reason
        FROM cancelled LEFT JOIN found USING (line_key) LEFT JOIN tried USING (line_key)
    """)
