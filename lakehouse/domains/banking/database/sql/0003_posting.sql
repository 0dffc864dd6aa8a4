-- Posting. Every function that writes entries locks all accounts first, in ascending id, so that no two of them wait
-- for each other in a circle. Amounts are decimal text; times without an offset are UTC.

CREATE FUNCTION bank.lock_accounts(numbers text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM bank.account a WHERE a.number = ANY (numbers) ORDER BY a.id FOR NO KEY UPDATE;
END $$;

-- What identifies a posting's request besides its key. 5.0 and 5.00 are one amount.
CREATE FUNCTION bank.hash_of(request jsonb) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN encode(sha256(convert_to(jsonb_build_array(
        request->>'type', request->>'employee', (request->>'effective_at')::timestamptz,
        (SELECT jsonb_agg(jsonb_build_array(leg->>'account', trim_scale((leg->>'amount')::numeric)) ORDER BY line)
         FROM jsonb_array_elements(request->'entries') WITH ORDINALITY AS e(leg, line)))::text, 'UTF8')), 'hex');
END $$;

CREATE FUNCTION bank.refuse(code text, broken text, said text, key text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', said
        USING ERRCODE = code, CONSTRAINT = broken, DETAIL = 'key: ' || coalesce(key, '(none)');
END $$;

-- The first fault of the entries of some requests of a batch (by their places in it), or no row. Accounts are locked.
-- The constraints of the tables would find most of it too; this names the account, the amounts and the key. Requests
-- count one after another, and the entries of one request on one account together.
CREATE FUNCTION bank.fault_of(batch jsonb, places int[], numbers text[])
RETURNS TABLE (code text, broken text, said text, key text) LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    WITH known AS MATERIALIZED (
        SELECT a.number, a.currency, a.digits, a.balance - a.held AS available, lower(s.name) AS status, a.status_id,
            coalesce(a.minimum_balance, a.customer_minimum) AS minimum
        FROM bank.account a JOIN bank.account_status s ON s.id = a.status_id WHERE a.number = ANY (numbers)
    ), legs AS MATERIALIZED (
        SELECT r.place, e.line, e.leg->>'account' AS account, (e.leg->>'amount')::numeric AS amount, k.*
        FROM unnest(places) AS r(place)
        CROSS JOIN LATERAL jsonb_array_elements(batch->(r.place - 1)->'entries') WITH ORDINALITY AS e(leg, line)
        LEFT JOIN known k ON k.number = e.leg->>'account'
    ), faults AS (
        SELECT place, CASE WHEN number IS NULL THEN 1 WHEN status_id IN (3, 4) THEN 2 ELSE 3 END AS rank, line,
            CASE WHEN number IS NULL THEN '23503' ELSE '23514' END AS code,
            CASE WHEN number IS NULL THEN 'entry_account_id_fkey' WHEN status_id IN (3, 4) THEN 'account_takes_entries'
                ELSE 'amount_has_digits_of_currency' END AS broken,
            CASE WHEN number IS NULL THEN format('account %s does not exist', coalesce(account, '(none)'))
                WHEN status_id IN (3, 4) THEN format('account %s is %s', number, status)
                ELSE format('entry %s: %s is no amount in %s, which is not 0 and has %s digits after the point at most',
                    line, coalesce(amount::text, 'nothing'), currency, digits) END AS said
        FROM legs
        WHERE number IS NULL OR status_id IN (3, 4) OR amount IS NULL OR amount = 0
            OR amount IN ('NaN', 'Infinity', '-Infinity') OR scale(trim_scale(amount)) > digits
        UNION ALL
        SELECT place, 4, 0, '23514', 'transaction_is_balanced',
            format('the transaction does not balance: its entries in %s sum to %s', currency, trim_scale(sum(amount)))
        FROM legs GROUP BY place, currency HAVING sum(amount) <> 0
        UNION ALL
        SELECT place, 5, line, '23514', 'balance_not_below_minimum',
            format('account %s has %s available, less than %s and its minimum of %s', number,
                trim_scale(after - moved), trim_scale(-moved), trim_scale(minimum))
        FROM (
            SELECT place, number, minimum, min(line) AS line, sum(amount) AS moved,
                available + sum(sum(amount)) OVER (PARTITION BY number ORDER BY place) AS after
            FROM legs GROUP BY place, number, minimum, available
        ) AS running
        WHERE after < minimum
    )
    SELECT f.code, f.broken, f.said, batch->(f.place - 1)->>'key' FROM faults f ORDER BY f.place, f.rank, f.line LIMIT 1;
END $$;

-- Writes the transactions of a batch: {key, type, employee, effective_at, entries, hash, reverses} each. A key that was
-- used for the same request gives its transaction.
CREATE FUNCTION bank.write(batch jsonb) RETURNS TABLE (transaction_id bigint, idempotency_key text, replayed boolean)
LANGUAGE plpgsql SET jit = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    numbers text[] := ARRAY(
        SELECT DISTINCT leg->>'account' FROM jsonb_array_elements(batch) r, jsonb_array_elements(r->'entries') leg);
    now_at timestamptz := clock_timestamp();
    request jsonb;
    place int := 0;
    made jsonb;
    fresh int[] := '{}';
    written bigint[] := '{}';
    fault record;
    kept record;
BEGIN
    PERFORM bank.lock_accounts(numbers);
    SELECT r->>'key' AS key, r->>'type' AS type INTO fault
    FROM jsonb_array_elements(batch) WITH ORDINALITY AS asked(r, place)
    WHERE coalesce(r->>'key', '') = '' OR r->>'type' IS NULL
        OR NOT EXISTS (SELECT FROM bank.transaction_type y WHERE y.name = r->>'type')
        OR jsonb_array_length(r->'entries') IS NOT DISTINCT FROM 0 OR r->'entries' IS NULL
    ORDER BY asked.place LIMIT 1;
    IF FOUND THEN
        PERFORM CASE
            WHEN coalesce(fault.key, '') = '' THEN
                bank.refuse('23502', 'transaction_idempotency_key_check', 'a request has no key', fault.key)
            WHEN EXISTS (SELECT FROM bank.transaction_type y WHERE y.name = fault.type) THEN
                bank.refuse('23514', 'transaction_is_balanced', 'the transaction has no entries', fault.key)
            ELSE bank.refuse('23503', 'transaction_type_id_fkey',
                format('%s is no type of transaction', coalesce(fault.type, 'nothing')), fault.key) END;
    END IF;
    WITH inserted AS (
        INSERT INTO bank.transaction AS t
            (type_id, employee_id, idempotency_key, request_hash, posted_at, effective_at, reverses)
        SELECT (SELECT y.id FROM bank.transaction_type y WHERE y.name = r->>'type'), (r->>'employee')::bigint, r->>'key',
            r->>'hash', now_at, coalesce((r->>'effective_at')::timestamptz, now_at), (r->>'reverses')::bigint
        FROM jsonb_array_elements(batch) WITH ORDINALITY AS asked(r, place) ORDER BY asked.place
        ON CONFLICT ON CONSTRAINT transaction_idempotency_key_key DO NOTHING
        RETURNING t.id, t.idempotency_key AS key
    )
    SELECT coalesce(jsonb_object_agg(i.key, i.id), '{}') INTO made FROM inserted i;
    FOR request IN SELECT r FROM jsonb_array_elements(batch) r LOOP
        place := place + 1;
        idempotency_key := request->>'key';
        transaction_id := (made->>idempotency_key)::bigint;
        replayed := transaction_id IS NULL OR transaction_id = ANY (written);
        IF replayed THEN
            SELECT t.id, t.request_hash INTO STRICT kept FROM bank.transaction t
            WHERE t.idempotency_key = request->>'key';
            IF kept.request_hash <> request->>'hash' THEN
                PERFORM bank.refuse('23505', 'transaction_idempotency_key_key',
                    format('the key %s was used for another request', request->>'key'), request->>'key');
            END IF;
            transaction_id := kept.id;
        ELSE
            fresh := fresh || place;
            written := written || transaction_id;
        END IF;
        RETURN NEXT;
    END LOOP;
    SELECT f.* INTO fault FROM bank.fault_of(batch, fresh, numbers) f;
    IF FOUND THEN
        PERFORM bank.refuse(fault.code, fault.broken, fault.said, fault.key);
    END IF;
    WITH known AS MATERIALIZED (
        SELECT a.id, a.number FROM bank.account a WHERE a.number = ANY (numbers)
    ), legs AS MATERIALIZED (
        SELECT w.id AS made, w.place, e.line, k.id, (e.leg->>'amount')::numeric AS amount
        FROM unnest(fresh, written) AS w(place, id)
        CROSS JOIN LATERAL jsonb_array_elements(batch->(w.place - 1)->'entries') WITH ORDINALITY AS e(leg, line)
        JOIN known k ON k.number = e.leg->>'account'
    ), totals AS MATERIALIZED (
        SELECT l.id, sum(l.amount) AS amount FROM legs l GROUP BY l.id
    ), updated AS (
        UPDATE bank.account a SET balance = a.balance + t.amount FROM totals t
        WHERE a.id = t.id AND a.number = ANY (numbers)
        RETURNING a.id, a.balance
    )
    INSERT INTO bank.entry (transaction_id, line, account_id, amount, balance_after)
    SELECT l.made, l.line, l.id, l.amount, u.balance - coalesce(sum(l.amount) OVER later, 0)
    FROM legs l JOIN updated u ON u.id = l.id
    WINDOW later AS (
        PARTITION BY l.id ORDER BY l.place, l.line ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING)
    ORDER BY l.place, l.line;
END $$;

-- Writes one transaction of another function, and returns it.
CREATE FUNCTION bank.write_one(request jsonb, type text, entries jsonb, hash text, reversed bigint DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT w.transaction_id FROM bank.write(jsonb_build_array(jsonb_build_object(
        'key', request->'key', 'type', type, 'employee', request->'employee', 'effective_at', request->'effective_at',
        'entries', entries, 'hash', hash, 'reverses', reversed))) w);
END $$;

-- Posts a batch, or a single request: {key, type, entries: [{account, amount}], effective_at?, employee?}. All of it, or
-- nothing; a refusal's detail names the key that it is about.
CREATE FUNCTION bank.post(batch jsonb) RETURNS TABLE (transaction_id bigint, idempotency_key text, replayed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bank, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    used text;
BEGIN
    IF jsonb_typeof(batch) <> 'array' THEN
        batch := jsonb_build_array(batch);
    END IF;
    SELECT q.key INTO used FROM bank.request q WHERE q.key = ANY (ARRAY(
        SELECT r->>'key' FROM jsonb_array_elements(batch) r)) LIMIT 1;
    IF FOUND THEN
        PERFORM bank.refuse('23505', 'request_pkey', format('the key %s was used for another request', used), used);
    END IF;
    RETURN QUERY SELECT w.* FROM bank.write((
        SELECT jsonb_agg(jsonb_build_object(
            'key', r->'key', 'type', r->'type', 'employee', r->'employee', 'effective_at', r->'effective_at',
            'entries', r->'entries', 'hash', bank.hash_of(r)) ORDER BY place)
        FROM jsonb_array_elements(batch) WITH ORDINALITY AS asked(r, place))) w;
END $$;

-- Every other function takes an object with a key and gives one. The first answer is kept for replays.
CREATE FUNCTION bank.begin_request(function_name text, wanted jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    kept record;
BEGIN
    INSERT INTO bank.request (key, function, request) VALUES (wanted->>'key', function_name, wanted)
    ON CONFLICT (key) DO NOTHING;
    IF FOUND AND NOT EXISTS (SELECT FROM bank.transaction t WHERE t.idempotency_key = wanted->>'key') THEN
        RETURN NULL;
    END IF;
    SELECT r.function, r.request, r.answer INTO STRICT kept FROM bank.request r WHERE r.key = wanted->>'key';
    IF kept.answer IS NULL OR kept.function <> function_name OR kept.request <> wanted THEN
        RAISE EXCEPTION 'the key % was used for another request', wanted->>'key'
            USING ERRCODE = 'unique_violation', CONSTRAINT = 'request_pkey';
    END IF;
    RETURN kept.answer || '{"replayed": true}';
END $$;

CREATE FUNCTION bank.end_request(wanted jsonb, given jsonb) RETURNS jsonb LANGUAGE sql AS $$
    UPDATE bank.request SET answer = given WHERE key = wanted->>'key' RETURNING given || '{"replayed": false}'
$$;

-- An amount of a request, which is above 0 and has its currency's digits.
CREATE FUNCTION bank.amount_of(request jsonb, member text, currency text) RETURNS numeric LANGUAGE plpgsql STABLE AS $$
DECLARE
    amount numeric := (request->>member)::numeric;
BEGIN
    IF amount IS NULL OR amount <= 0 OR amount IN ('NaN', 'Infinity')
        OR scale(trim_scale(amount)) > (SELECT c.digits FROM bank.currency c WHERE c.code = currency) THEN
        RAISE EXCEPTION '%: % is no amount in % above 0', member, coalesce(amount::text, 'nothing'), currency
            USING ERRCODE = 'check_violation', CONSTRAINT = 'amount_has_digits_of_currency';
    END IF;
    RETURN amount;
END $$;

CREATE FUNCTION bank.account_named(wanted text) RETURNS bank.account LANGUAGE plpgsql AS $$
DECLARE
    one bank.account;
BEGIN
    SELECT a.* INTO one FROM bank.account a WHERE a.number = wanted;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'account % does not exist', coalesce(wanted, '(none)')
            USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'entry_account_id_fkey';
    END IF;
    RETURN one;
END $$;

-- The number of one of the bank's own accounts, such as CASH-USD. Called before accounts are locked.
CREATE FUNCTION bank.own_account(wanted text, money text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    one text := upper(wanted) || '-' || money;
BEGIN
    IF NOT EXISTS (SELECT FROM bank.account a WHERE a.number = one) THEN
        INSERT INTO bank.account (number, purpose, currency) VALUES (one, wanted, money)
        ON CONFLICT (purpose, currency) DO NOTHING;
    END IF;
    RETURN one;
END $$;

-- {key, transaction, effective_at?, employee?}: the entries of a transaction with the opposite sign, once.
CREATE FUNCTION bank.reverse(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bank, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    answer jsonb := bank.begin_request('reverse', request);
    original bigint := (request->>'transaction')::bigint;
    legs jsonb;
    made bigint;
    payment bank.loan_payment;
BEGIN
    IF answer IS NOT NULL THEN
        RETURN answer;
    END IF;
    SELECT jsonb_agg(jsonb_build_object('account', a.number, 'amount', (-e.amount)::text) ORDER BY e.line) INTO legs
    FROM bank.entry e JOIN bank.account a ON a.id = e.account_id WHERE e.transaction_id = original;
    IF legs IS NULL THEN
        RAISE EXCEPTION 'transaction % does not exist', coalesce(request->>'transaction', '(none)')
            USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'transaction_reverses_fkey';
    END IF;
    PERFORM bank.lock_accounts(ARRAY(SELECT leg->>'account' FROM jsonb_array_elements(legs) leg));
    IF EXISTS (SELECT FROM bank.transaction t WHERE t.reverses = original) THEN
        RAISE EXCEPTION 'transaction % is reversed already', original
            USING ERRCODE = 'unique_violation', CONSTRAINT = 'transaction_reverses_key';
    END IF;
    made := bank.write_one(request, 'Adjustment', legs, 'reverse ' || original, original);
    SELECT p.* INTO payment FROM bank.loan_payment p WHERE p.transaction_id = original;
    IF FOUND THEN
        UPDATE bank.loan SET outstanding = outstanding + payment.principal,
            status_id = CASE WHEN status_id = 5 AND payment.principal > 0 THEN 1 ELSE status_id END
        WHERE id = payment.loan_id;
    END IF;
    UPDATE bank.loan SET outstanding = 0, status_id = 2 WHERE transaction_id = original AND outstanding = principal;
    IF NOT FOUND AND EXISTS (SELECT FROM bank.loan l WHERE l.transaction_id = original) THEN
        RAISE EXCEPTION 'transaction % granted a loan that has payments: reverse them first', original
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN bank.end_request(request, jsonb_build_object('transaction', made, 'reverses', original));
END $$;

-- {key, account, amount}: money that the account still has, but nothing else may spend.
CREATE FUNCTION bank.place_hold(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bank, pg_temp AS $$
DECLARE
    answer jsonb := bank.begin_request('place_hold', request);
    account bank.account;
    amount numeric;
    made bigint;
BEGIN
    IF answer IS NOT NULL THEN
        RETURN answer;
    END IF;
    PERFORM bank.lock_accounts(ARRAY[request->>'account']);
    account := bank.account_named(request->>'account');
    amount := bank.amount_of(request, 'amount', account.currency);
    IF account.status_id IN (3, 4) THEN
        RAISE EXCEPTION 'account % is %', account.number,
            (SELECT lower(s.name) FROM bank.account_status s WHERE s.id = account.status_id)
            USING ERRCODE = 'check_violation', CONSTRAINT = 'account_takes_entries';
    ELSIF account.balance - account.held - amount < coalesce(account.minimum_balance, account.customer_minimum) THEN
        RAISE EXCEPTION 'account % has % available, less than % and its minimum of %', account.number,
            trim_scale(account.balance - account.held), trim_scale(amount),
            trim_scale(coalesce(account.minimum_balance, account.customer_minimum))
            USING ERRCODE = 'check_violation', CONSTRAINT = 'balance_not_below_minimum';
    END IF;
    UPDATE bank.account a SET held = a.held + amount WHERE a.id = account.id;
    INSERT INTO bank.hold (account_id, amount) VALUES (account.id, amount) RETURNING id INTO made;
    RETURN bank.end_request(request, jsonb_build_object('hold', made));
END $$;

-- Locks the account of a hold with others, and then the hold, which has to be open.
CREATE FUNCTION bank.open_hold(wanted bigint, others text[]) RETURNS bank.hold LANGUAGE plpgsql AS $$
DECLARE
    one bank.hold;
BEGIN
    PERFORM bank.lock_accounts(others || ARRAY(
        SELECT a.number FROM bank.hold h JOIN bank.account a ON a.id = h.account_id WHERE h.id = wanted));
    SELECT h.* INTO one FROM bank.hold h WHERE h.id = wanted FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'hold % does not exist', coalesce(wanted::text, '(none)') USING ERRCODE = 'foreign_key_violation';
    ELSIF one.status <> 'Open' THEN
        RAISE EXCEPTION 'hold % is % already', wanted, lower(one.status)
            USING ERRCODE = 'check_violation', CONSTRAINT = 'hold_ends_once';
    END IF;
    RETURN one;
END $$;

-- {key, hold, to, amount?, type?, effective_at?, employee?}: pays from a hold to an account, and frees the rest.
CREATE FUNCTION bank.capture_hold(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bank, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    answer jsonb := bank.begin_request('capture_hold', request);
    taken bank.hold;
    account bank.account;
    amount numeric;
    made bigint;
BEGIN
    IF answer IS NOT NULL THEN
        RETURN answer;
    END IF;
    taken := bank.open_hold((request->>'hold')::bigint, ARRAY[request->>'to']);
    SELECT a.* INTO account FROM bank.account a WHERE a.id = taken.account_id;
    amount := CASE WHEN request ? 'amount' THEN bank.amount_of(request, 'amount', account.currency) ELSE taken.amount END;
    IF amount > taken.amount THEN
        RAISE EXCEPTION 'hold % is of %, less than %', taken.id, trim_scale(taken.amount), trim_scale(amount)
            USING ERRCODE = 'check_violation', CONSTRAINT = 'hold_is_not_exceeded';
    END IF;
    UPDATE bank.account a SET held = a.held - taken.amount WHERE a.id = account.id;
    made := bank.write_one(request, coalesce(request->>'type', 'Payment'), jsonb_build_array(
            jsonb_build_object('account', account.number, 'amount', (-amount)::text),
            jsonb_build_object('account', request->>'to', 'amount', amount::text)),
        'capture_hold ' || taken.id);
    UPDATE bank.hold SET status = 'Captured', ended_at = clock_timestamp(), transaction_id = made WHERE id = taken.id;
    RETURN bank.end_request(request, jsonb_build_object('hold', taken.id, 'transaction', made));
END $$;

-- {key, hold}
CREATE FUNCTION bank.release_hold(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bank, pg_temp AS $$
DECLARE
    answer jsonb := bank.begin_request('release_hold', request);
    taken bank.hold;
BEGIN
    IF answer IS NOT NULL THEN
        RETURN answer;
    END IF;
    taken := bank.open_hold((request->>'hold')::bigint, '{}');
    UPDATE bank.account a SET held = a.held - taken.amount WHERE a.id = taken.account_id;
    UPDATE bank.hold SET status = 'Released', ended_at = clock_timestamp() WHERE id = taken.id;
    RETURN bank.end_request(request, jsonb_build_object('hold', taken.id));
END $$;
