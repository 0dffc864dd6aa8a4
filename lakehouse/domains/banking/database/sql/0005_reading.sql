-- What is read: a loan's schedule and what is overdue, views, roles, and the log for the capture.

-- A month's interest on an amount, in the digits of the loan's currency.
CREATE FUNCTION bank.month_interest(amount numeric, loan bank.loan) RETURNS numeric LANGUAGE sql STABLE AS $$
    SELECT round(amount * loan.annual_rate / 1200, c.digits) FROM bank.currency c WHERE c.code = loan.currency
$$;

-- The instalments of a loan: equal ones, with a month's interest on what is outstanding; the last one pays the rest.
CREATE FUNCTION bank.loan_schedule(wanted bigint)
RETURNS TABLE (instalment int, due_on date, due numeric, principal numeric, interest numeric, outstanding numeric)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = bank, pg_temp AS $$
DECLARE
    loan bank.loan;
    rate numeric;
    equal numeric;
BEGIN
    SELECT l.* INTO loan FROM bank.loan l WHERE l.id = wanted;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'loan % does not exist', wanted USING ERRCODE = 'foreign_key_violation';
    END IF;
    rate := loan.annual_rate / 1200;
    SELECT round(CASE WHEN rate = 0 THEN loan.principal / loan.months
        ELSE loan.principal * rate / (1 - power(1 + rate, -loan.months)) END, c.digits)
    INTO equal FROM bank.currency c WHERE c.code = loan.currency;
    outstanding := loan.principal;
    FOR number IN 1..loan.months LOOP
        instalment := number;
        due_on := (loan.starts_on + make_interval(months => instalment))::date;
        interest := bank.month_interest(outstanding, loan);
        principal := CASE WHEN instalment = loan.months THEN outstanding ELSE least(equal - interest, outstanding) END;
        due := principal + interest;
        outstanding := outstanding - principal;
        RETURN NEXT;
    END LOOP;
END $$;

-- Per loan that is being repaid: what was due by a day (in the bank's time zone), what was paid, and the rest.
CREATE FUNCTION bank.loans_on(day date, zone text DEFAULT 'UTC')
RETURNS TABLE (loan_id bigint, due numeric, paid numeric, overdue numeric, overdue_since date)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bank, pg_temp AS $$
    WITH due AS (
        SELECT l.id, s.due_on, sum(s.due) OVER (PARTITION BY l.id ORDER BY s.instalment) AS total
        FROM bank.loan l CROSS JOIN LATERAL bank.loan_schedule(l.id) s
        WHERE l.status_id IN (1, 4, 5) AND s.due_on <= day
    ), paid AS (
        SELECT p.loan_id AS id, sum(p.paid) AS total
        FROM bank.loan_payment p JOIN bank.transaction t ON t.id = p.transaction_id
        LEFT JOIN bank.transaction r ON r.reverses = t.id AND (r.effective_at AT TIME ZONE zone)::date <= day
        WHERE r.id IS NULL AND (t.effective_at AT TIME ZONE zone)::date <= day
        GROUP BY p.loan_id
    )
    SELECT l.id, coalesce(max(d.total), 0), coalesce(min(p.total), 0),
        CASE WHEN l.status_id = 5 THEN 0 ELSE greatest(coalesce(max(d.total), 0) - coalesce(min(p.total), 0), 0) END,
        CASE WHEN l.status_id <> 5 THEN min(d.due_on) FILTER (WHERE d.total > coalesce(p.total, 0)) END
    FROM bank.loan l LEFT JOIN due d ON d.id = l.id LEFT JOIN paid p ON p.id = l.id
    WHERE l.status_id IN (1, 4, 5)
    GROUP BY l.id ORDER BY l.id
$$;

-- One signed row per account and entry.
CREATE VIEW bank.account_transaction AS
SELECT e.transaction_id, e.line, e.account_id, a.number AS account, y.name AS type, e.amount, a.currency,
    e.balance_after, t.posted_at, t.effective_at, t.employee_id, t.reverses
FROM bank.entry e
JOIN bank.transaction t ON t.id = e.transaction_id
JOIN bank.transaction_type y ON y.id = t.type_id
JOIN bank.account a ON a.id = e.account_id;

CREATE VIEW bank.account_available AS
SELECT id, number, currency, balance, held, balance - held AS available,
    coalesce(minimum_balance, customer_minimum) AS minimum
FROM bank.account;

-- Roles of the whole server: another bank's database may have made them already.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['bank_app', 'bank_capture', 'bank_reader'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- at the same time
        END;
    END LOOP;
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA bank FROM PUBLIC;
GRANT USAGE ON SCHEMA bank TO bank_app, bank_capture, bank_reader;
-- The application may only execute what keeps the rules.
GRANT EXECUTE ON FUNCTION
    bank.post(jsonb), bank.reverse(jsonb), bank.place_hold(jsonb), bank.capture_hold(jsonb), bank.release_hold(jsonb),
    bank.pay_loan(jsonb), bank.grant_loan(jsonb), bank.open_customer(jsonb), bank.open_account(jsonb),
    bank.close_account(jsonb), bank.block_account(jsonb), bank.set_minimum(jsonb), bank.issue_card(jsonb),
    bank.add_branch(jsonb), bank.add_employee(jsonb), bank.loan_schedule(bigint), bank.loans_on(date, text)
    TO bank_app;
GRANT SELECT ON ALL TABLES IN SCHEMA bank TO bank_capture;
-- A reader sees no name, address or phone number of a customer.
GRANT SELECT ON bank.currency, bank.customer_status, bank.account_status, bank.loan_status, bank.customer_type,
    bank.transaction_type, bank.account_type, bank.card_type, bank.loan_type, bank.branch, bank.account,
    bank.transaction, bank.entry, bank.loan, bank.loan_payment, bank.hold, bank.account_transaction,
    bank.account_available TO bank_reader;
GRANT SELECT (id, branch_id, position) ON bank.employee TO bank_reader;
GRANT SELECT (id, type_id, status_id, minimum_balance, opened_at) ON bank.customer TO bank_reader;
GRANT SELECT (id, customer_id, account_id, type_id, expires_on, is_active, issued_at) ON bank.card TO bank_reader;
GRANT EXECUTE ON FUNCTION bank.loan_schedule(bigint), bank.loans_on(date, text) TO bank_reader;

-- The capture reads whole rows from the log, before and after each change.
DO $$
DECLARE
    captured regclass;
BEGIN
    FOREACH captured IN ARRAY ARRAY['bank.branch', 'bank.employee', 'bank.customer', 'bank.account', 'bank.card',
        'bank.transaction', 'bank.entry', 'bank.loan', 'bank.loan_payment', 'bank.hold', 'bank.customer_status',
        'bank.account_status', 'bank.loan_status', 'bank.customer_type', 'bank.transaction_type', 'bank.account_type',
        'bank.card_type', 'bank.loan_type', 'bank.currency']::regclass[] LOOP
        EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', captured);
    END LOOP;
END $$;
CREATE PUBLICATION lakehouse_banking FOR TABLE
    bank.branch, bank.employee, bank.customer, bank.account, bank.card, bank.transaction, bank.entry, bank.loan,
    bank.loan_payment, bank.hold, bank.customer_status, bank.account_status, bank.loan_status, bank.customer_type,
    bank.transaction_type, bank.account_type, bank.card_type, bank.loan_type, bank.currency;
