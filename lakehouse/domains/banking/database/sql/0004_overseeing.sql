-- How people oversee customers, accounts, cards and loans. Each function takes an object with a key; names of types are
-- those of the lookups.

-- The id of a lookup's row by its name.
CREATE FUNCTION bank.named(lookup regclass, wanted text) RETURNS smallint LANGUAGE plpgsql STABLE AS $$
DECLARE
    one smallint;
BEGIN
    EXECUTE format('SELECT id FROM %s WHERE name = $1', lookup) INTO one USING wanted;
    IF one IS NULL THEN
        RAISE EXCEPTION '% is no name in %', coalesce(wanted, 'nothing'), lookup USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN one;
END $$;

-- {key, name, city?}
CREATE FUNCTION bank.add_branch(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bank, pg_temp AS $$
DECLARE
    answer jsonb := bank.begin_request('add_branch', request);
    made bigint;
BEGIN
    IF answer IS NOT NULL THEN
        RETURN answer;
    END IF;
    INSERT INTO bank.branch (name, city) VALUES (request->>'name', request->>'city') RETURNING id INTO made;
    RETURN bank.end_request(request, jsonb_build_object('branch', made));
END $$;

-- {key, branch, name, position?}
CREATE FUNCTION bank.add_employee(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bank, pg_temp AS $$
DECLARE
    answer jsonb := bank.begin_request('add_employee', request);
    made bigint;
BEGIN
    IF answer IS NOT NULL THEN
        RETURN answer;
    END IF;
    INSERT INTO bank.employee (branch_id, name, position)
    VALUES ((request->>'branch')::bigint, request->>'name', request->>'position') RETURNING id INTO made;
    RETURN bank.end_request(request, jsonb_build_object('employee', made));
END $$;

-- {key, name, email, type?, minimum?, phone?, address?}
CREATE FUNCTION bank.open_customer(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bank, pg_temp AS $$
DECLARE
    answer jsonb := bank.begin_request('open_customer', request);
    made bigint;
BEGIN
    IF answer IS NOT NULL THEN
        RETURN answer;
    END IF;
    INSERT INTO bank.customer (type_id, name, email, phone, address, minimum_balance)
    VALUES (bank.named('bank.customer_type', coalesce(request->>'type', 'Individual')), request->>'name',
        request->>'email', request->>'phone', request->>'address', coalesce((request->>'minimum')::numeric, 0))
    RETURNING id INTO made;
    RETURN bank.end_request(request, jsonb_build_object('customer', made));
END $$;

-- {key, customer, branch, type, currency, number?, minimum?, opening?, effective_at?}: an account of a customer, whose
-- opening balance comes from the bank's own OPENING account; or {key, purpose, currency}: one of the bank's own.
CREATE FUNCTION bank.open_account(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bank, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    answer jsonb := bank.begin_request('open_account', request);
    money text := request->>'currency';
    opening numeric;
    source text;
    made bank.account;
    posted bigint;
BEGIN
    IF answer IS NOT NULL THEN
        RETURN answer;
    END IF;
    IF request ? 'purpose' THEN
        made := bank.account_named(bank.own_account(request->>'purpose', money));
        RETURN bank.end_request(request, jsonb_build_object('account', made.number, 'id', made.id));
    END IF;
    IF EXISTS (SELECT FROM bank.customer c WHERE c.id = (request->>'customer')::bigint AND c.status_id IN (3, 4)) THEN
        RAISE EXCEPTION 'customer % is blocked or closed', request->>'customer'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'customer_is_active';
    END IF;
    -- Until its opening balance is there, the account has a minimum of 0.
    INSERT INTO bank.account (number, customer_id, branch_id, type_id, currency, minimum_balance)
    VALUES (coalesce(request->>'number', nextval('bank.account_number')::text), (request->>'customer')::bigint,
        (request->>'branch')::bigint, bank.named('bank.account_type', request->>'type'), money, 0)
    RETURNING * INTO made;
    IF request ? 'opening' THEN
        opening := bank.amount_of(request, 'opening', money);
        source := bank.own_account('Opening', money);
        PERFORM bank.lock_accounts(ARRAY[made.number, source]);
        posted := bank.write_one(request, 'Deposit', jsonb_build_array(
                jsonb_build_object('account', made.number, 'amount', opening::text),
                jsonb_build_object('account', source, 'amount', (-opening)::text)),
            'open_account ' || made.id);
    END IF;
    UPDATE bank.account a SET minimum_balance = (request->>'minimum')::numeric WHERE a.id = made.id;
    RETURN bank.end_request(request, jsonb_build_object('account', made.number, 'id', made.id, 'transaction', posted));
END $$;

-- {key, account}: the account has to be empty. Its cards end with it.
CREATE FUNCTION bank.close_account(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bank, pg_temp AS $$
DECLARE
    answer jsonb := bank.begin_request('close_account', request);
    account bank.account;
BEGIN
    IF answer IS NOT NULL THEN
        RETURN answer;
    END IF;
    PERFORM bank.lock_accounts(ARRAY[request->>'account']);
    account := bank.account_named(request->>'account');
    IF account.status_id = 4 THEN
        RAISE EXCEPTION 'account % is closed already', account.number
            USING ERRCODE = 'check_violation', CONSTRAINT = 'account_takes_entries';
    ELSIF account.balance <> 0 OR account.held <> 0 THEN
        RAISE EXCEPTION 'account % has a balance of % and % on hold: both have to be 0', account.number,
            trim_scale(account.balance), trim_scale(account.held)
            USING ERRCODE = 'check_violation', CONSTRAINT = 'closed_account_is_empty';
    END IF;
    UPDATE bank.account a SET status_id = 4, closed_at = clock_timestamp() WHERE a.id = account.id;
    UPDATE bank.card c SET is_active = false WHERE c.account_id = account.id AND c.is_active;
    RETURN bank.end_request(request, jsonb_build_object('account', account.number));
END $$;

-- {key, account, blocked?}: `"blocked": false` lets the account take entries again.
CREATE FUNCTION bank.block_account(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bank, pg_temp AS $$
DECLARE
    answer jsonb := bank.begin_request('block_account', request);
    account bank.account;
BEGIN
    IF answer IS NOT NULL THEN
        RETURN answer;
    END IF;
    PERFORM bank.lock_accounts(ARRAY[request->>'account']);
    account := bank.account_named(request->>'account');
    IF account.status_id = 4 THEN
        RAISE EXCEPTION 'account % is closed', account.number
            USING ERRCODE = 'check_violation', CONSTRAINT = 'account_takes_entries';
    END IF;
    UPDATE bank.account a
    SET status_id = CASE WHEN coalesce((request->>'blocked')::boolean, true) THEN 3 ELSE 1 END WHERE a.id = account.id;
    RETURN bank.end_request(request, jsonb_build_object('account', account.number));
END $$;

-- {key, customer, minimum}, or {key, account, minimum}: an account's own, which may be negative; null gives it the
-- customer's again.
CREATE FUNCTION bank.set_minimum(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bank, pg_temp AS $$
DECLARE
    answer jsonb := bank.begin_request('set_minimum', request);
    wanted numeric := (request->>'minimum')::numeric;
    effective numeric;
    account bank.account;
BEGIN
    IF answer IS NOT NULL THEN
        RETURN answer;
    END IF;
    IF NOT request ? 'account' THEN
        UPDATE bank.customer c SET minimum_balance = wanted WHERE c.id = (request->>'customer')::bigint;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'customer % does not exist', coalesce(request->>'customer', '(none)')
                USING ERRCODE = 'foreign_key_violation';
        END IF;
        RETURN bank.end_request(request, jsonb_build_object('customer', request->'customer'));
    END IF;
    PERFORM bank.lock_accounts(ARRAY[request->>'account']);
    account := bank.account_named(request->>'account');
    effective := coalesce(wanted, account.customer_minimum);
    IF account.status_id <> 4 AND account.balance - account.held < effective THEN
        RAISE EXCEPTION 'a minimum of % is above the balance of account %', trim_scale(effective), account.number
            USING ERRCODE = 'check_violation', CONSTRAINT = 'balance_not_below_minimum';
    END IF;
    UPDATE bank.account a SET minimum_balance = wanted WHERE a.id = account.id;
    RETURN bank.end_request(request, jsonb_build_object('account', account.number));
END $$;

-- {key, account, type, last_four, expires_on}: a card for the account and its customer.
CREATE FUNCTION bank.issue_card(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bank, pg_temp AS $$
DECLARE
    answer jsonb := bank.begin_request('issue_card', request);
    account bank.account;
    made bigint;
BEGIN
    IF answer IS NOT NULL THEN
        RETURN answer;
    END IF;
    PERFORM bank.lock_accounts(ARRAY[request->>'account']);
    account := bank.account_named(request->>'account');
    IF account.status_id IN (3, 4) THEN
        RAISE EXCEPTION 'account % is blocked or closed', account.number
            USING ERRCODE = 'check_violation', CONSTRAINT = 'account_takes_entries';
    END IF;
    INSERT INTO bank.card (customer_id, account_id, type_id, last_four, expires_on)
    VALUES (account.customer_id, account.id, bank.named('bank.card_type', request->>'type'), request->>'last_four',
        (request->>'expires_on')::date)
    RETURNING id INTO made;
    RETURN bank.end_request(request, jsonb_build_object('card', made));
END $$;

-- {key, account, type, principal, annual_rate, months, starts_on?, effective_at?, employee?}: pays a loan out to an
-- account of its customer; `annual_rate` is in percent.
CREATE FUNCTION bank.grant_loan(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bank, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    answer jsonb := bank.begin_request('grant_loan', request);
    account bank.account;
    lent numeric;
    lender text;
    posted bigint;
    made bigint;
BEGIN
    IF answer IS NOT NULL THEN
        RETURN answer;
    END IF;
    account := bank.account_named(request->>'account');
    lent := bank.amount_of(request, 'principal', account.currency);
    lender := bank.own_account('Loans', account.currency);
    PERFORM bank.lock_accounts(ARRAY[account.number, lender]);
    posted := bank.write_one(request, 'Transfer', jsonb_build_array(
            jsonb_build_object('account', lender, 'amount', (-lent)::text),
            jsonb_build_object('account', account.number, 'amount', lent::text)),
        'grant_loan');
    INSERT INTO bank.loan
        (customer_id, type_id, currency, principal, outstanding, annual_rate, months, starts_on, transaction_id)
    VALUES (account.customer_id, bank.named('bank.loan_type', request->>'type'), account.currency,
        lent, lent, (request->>'annual_rate')::numeric, (request->>'months')::smallint,
        coalesce((request->>'starts_on')::date, current_date), posted)
    RETURNING id INTO made;
    RETURN bank.end_request(request, jsonb_build_object('loan', made, 'transaction', posted));
END $$;

-- {key, loan, account, amount, interest?, effective_at?, employee?}: pays from an account. Interest comes first: a month's
-- on what is outstanding, unless the request says how much. The rest is principal.
CREATE FUNCTION bank.pay_loan(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bank, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    answer jsonb := bank.begin_request('pay_loan', request);
    loan bank.loan;
    account bank.account;
    amount numeric;
    earned numeric;
    lender text;
    earner text;
    posted bigint;
    made bigint;
BEGIN
    IF answer IS NOT NULL THEN
        RETURN answer;
    END IF;
    SELECT l.* INTO loan FROM bank.loan l WHERE l.id = (request->>'loan')::bigint;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'loan % does not exist', coalesce(request->>'loan', '(none)')
            USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'loan_payment_loan_id_fkey';
    END IF;
    lender := bank.own_account('Loans', loan.currency);
    earner := bank.own_account('Interest', loan.currency);
    PERFORM bank.lock_accounts(ARRAY[request->>'account', lender, earner]);
    account := bank.account_named(request->>'account');
    SELECT l.* INTO loan FROM bank.loan l WHERE l.id = loan.id FOR NO KEY UPDATE;
    amount := bank.amount_of(request, 'amount', loan.currency);
    earned := coalesce((request->>'interest')::numeric, least(amount, bank.month_interest(loan.outstanding, loan)));
    IF loan.status_id NOT IN (1, 4) THEN
        RAISE EXCEPTION 'loan % is %', loan.id, (SELECT lower(s.name) FROM bank.loan_status s WHERE s.id = loan.status_id)
            USING ERRCODE = 'check_violation', CONSTRAINT = 'loan_is_not_overpaid';
    ELSIF earned < 0 OR earned > amount OR earned = 'NaN' THEN
        RAISE EXCEPTION 'interest of % is not between 0 and the % paid', earned, trim_scale(amount)
            USING ERRCODE = 'check_violation', CONSTRAINT = 'payment_is_principal_and_interest';
    ELSIF amount - earned > loan.outstanding THEN
        RAISE EXCEPTION 'loan % has % outstanding, less than the % that would be repaid', loan.id,
            trim_scale(loan.outstanding), trim_scale(amount - earned)
            USING ERRCODE = 'check_violation', CONSTRAINT = 'loan_is_not_overpaid';
    END IF;
    posted := bank.write_one(request, 'Payment', (
            SELECT jsonb_agg(jsonb_build_object('account', leg.number, 'amount', leg.moved::text) ORDER BY leg.line)
            FROM (VALUES (1, account.number, -amount), (2, lender, amount - earned), (3, earner, earned))
                AS leg(line, number, moved)
            WHERE leg.moved <> 0),
        'pay_loan ' || loan.id);
    INSERT INTO bank.loan_payment (loan_id, transaction_id, account_id, paid, principal, interest)
    VALUES (loan.id, posted, account.id, amount, amount - earned, earned)
    RETURNING id INTO made;
    UPDATE bank.loan l SET outstanding = l.outstanding - (amount - earned),
        status_id = CASE WHEN l.outstanding = amount - earned THEN 5 ELSE l.status_id END
    WHERE l.id = loan.id;
    RETURN bank.end_request(request, jsonb_build_object('payment', made, 'transaction', posted,
        'principal', trim_scale(amount - earned)::text, 'interest', trim_scale(earned)::text));
END $$;
