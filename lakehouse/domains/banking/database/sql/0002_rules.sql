-- Rules over several rows, by triggers: they hold for every writer.

-- The entries of a transaction sum to zero per currency, when it is committed.
CREATE FUNCTION bank.require_zero_sum() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    one record;
BEGIN
    SELECT a.currency, sum(e.amount) AS total INTO one
    FROM bank.entry e JOIN bank.account a ON a.id = e.account_id
    WHERE e.transaction_id = NEW.transaction_id
    GROUP BY a.currency HAVING sum(e.amount) <> 0
    ORDER BY a.currency LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'transaction % does not balance: its entries in % sum to %',
            NEW.transaction_id, one.currency, trim_scale(one.total)
            USING ERRCODE = 'check_violation', CONSTRAINT = 'transaction_is_balanced', TABLE = 'entry', SCHEMA = 'bank';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER transaction_is_balanced AFTER INSERT ON bank.entry
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION bank.require_zero_sum();

CREATE FUNCTION bank.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: a correction is a reversal', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', TABLE = TG_TABLE_NAME, SCHEMA = 'bank';
END $$;
CREATE TRIGGER entry_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON bank.entry
    FOR EACH STATEMENT EXECUTE FUNCTION bank.refuse_change();
CREATE TRIGGER transaction_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON bank.transaction
    FOR EACH STATEMENT EXECUTE FUNCTION bank.refuse_change();
CREATE TRIGGER loan_payment_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON bank.loan_payment
    FOR EACH STATEMENT EXECUTE FUNCTION bank.refuse_change();

CREATE FUNCTION bank.refuse_entry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'account % is %', OLD.number, (SELECT lower(name) FROM bank.account_status WHERE id = OLD.status_id)
        USING ERRCODE = 'check_violation', CONSTRAINT = 'account_takes_entries', TABLE = 'account', SCHEMA = 'bank';
END $$;
CREATE TRIGGER account_takes_entries BEFORE UPDATE OF balance ON bank.account
    FOR EACH ROW WHEN (OLD.status_id IN (3, 4)) EXECUTE FUNCTION bank.refuse_entry();

-- The customer's minimum and the currency's digits are copied into accounts, so that a row's own check holds them. The customer is locked, so
-- that no account is opened with a minimum that another transaction is changing.
CREATE FUNCTION bank.complete_account() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT c.digits INTO NEW.digits FROM bank.currency c WHERE c.code = NEW.currency;
    IF NOT FOUND THEN
        RAISE EXCEPTION '% is no currency of ISO 4217', coalesce(NEW.currency, 'nothing')
            USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'account_currency_digits_fkey';
    END IF;
    IF NEW.customer_id IS NULL THEN
        NEW.customer_minimum := NULL;
    ELSE
        SELECT c.minimum_balance INTO NEW.customer_minimum FROM bank.customer c WHERE c.id = NEW.customer_id FOR SHARE;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER account_is_complete BEFORE INSERT OR UPDATE OF customer_id, currency ON bank.account
    FOR EACH ROW EXECUTE FUNCTION bank.complete_account();

CREATE FUNCTION bank.spread_minimum() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    below text;
BEGIN
    PERFORM 1 FROM bank.account a WHERE a.customer_id = NEW.id ORDER BY a.id FOR NO KEY UPDATE;
    SELECT string_agg(a.number, ', ' ORDER BY a.id) INTO below
    FROM bank.account a
    WHERE a.customer_id = NEW.id AND a.status_id <> 4 AND a.minimum_balance IS NULL
        AND a.balance - a.held < NEW.minimum_balance;
    IF below IS NOT NULL THEN
        RAISE EXCEPTION 'a minimum of % is above the balance of account %', trim_scale(NEW.minimum_balance), below
            USING ERRCODE = 'check_violation', CONSTRAINT = 'balance_not_below_minimum', TABLE = 'account',
                  SCHEMA = 'bank';
    END IF;
    UPDATE bank.account SET customer_minimum = NEW.minimum_balance WHERE customer_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER customer_minimum_reaches_the_accounts AFTER UPDATE OF minimum_balance ON bank.customer
    FOR EACH ROW WHEN (OLD.minimum_balance IS DISTINCT FROM NEW.minimum_balance)
    EXECUTE FUNCTION bank.spread_minimum();
