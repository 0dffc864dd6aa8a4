-- The tables of the bank and what a row, or a pair of rows, may say. Rules over several rows are in 0002.
-- Money is numeric(20,4): every currency of ISO 4217 has four digits at most.

CREATE TABLE bank.currency (
    code text PRIMARY KEY CHECK (code ~ '^[A-Z]{3}$'),
    digits smallint NOT NULL CHECK (digits BETWEEN 0 AND 4),
    UNIQUE (code, digits)
);
INSERT INTO bank.currency
SELECT code, CASE
    WHEN code IN ('BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX', 'UYI', 'VND', 'VUV',
                  'XAF', 'XOF', 'XPF') THEN 0
    WHEN code IN ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND') THEN 3
    WHEN code IN ('CLF', 'UYW') THEN 4
    ELSE 2 END
FROM unnest(string_to_array(
    'AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLF CLP '
    'CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF '
    'IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD '
    'MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB '
    'RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD '
    'UYI UYU UYW UZS VED VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWG', ' ')) AS code;

CREATE TABLE bank.customer_status (id smallint PRIMARY KEY, name text NOT NULL UNIQUE, description text NOT NULL);
INSERT INTO bank.customer_status VALUES
    (1, 'Active', 'May use all services'), (2, 'Inactive', 'Has not used a service for long'),
    (3, 'Blocked', 'May use no service'), (4, 'Closed', 'Has left the bank'), (5, 'Pending', 'Is being verified');

CREATE TABLE bank.account_status (id smallint PRIMARY KEY, name text NOT NULL UNIQUE, description text NOT NULL);
INSERT INTO bank.account_status VALUES
    (1, 'Active', 'Takes entries'), (2, 'Inactive', 'Takes entries; had none for long'),
    (3, 'Blocked', 'Takes no entries for now'), (4, 'Closed', 'Is empty and takes no entries any more');

CREATE TABLE bank.loan_status (id smallint PRIMARY KEY, name text NOT NULL UNIQUE, description text NOT NULL);
INSERT INTO bank.loan_status VALUES
    (1, 'Active', 'Is being repaid'), (2, 'Closed', 'Was taken back'), (3, 'Pending', 'Is not granted yet'),
    (4, 'Defaulted', 'Is not repaid any more'), (5, 'Paid Off', 'Is repaid in full');

CREATE TABLE bank.customer_type (id smallint PRIMARY KEY, name text NOT NULL UNIQUE, description text NOT NULL);
INSERT INTO bank.customer_type VALUES
    (1, 'Individual', 'A person'), (2, 'Corporate', 'A company'), (3, 'VIP', 'A person with an adviser'),
    (4, 'SME', 'A small or medium company'), (5, 'Government', 'A public body');

CREATE TABLE bank.transaction_type (id smallint PRIMARY KEY, name text NOT NULL UNIQUE, description text NOT NULL);
INSERT INTO bank.transaction_type VALUES
    (1, 'Deposit', 'Money comes in'), (2, 'Withdrawal', 'Money goes out'),
    (3, 'Transfer', 'Money moves between accounts'), (4, 'Payment', 'A loan, a card or a bill is paid'),
    (5, 'Adjustment', 'A reversal, or another correction');

CREATE TABLE bank.account_type (id smallint PRIMARY KEY, name text NOT NULL UNIQUE, description text NOT NULL);
INSERT INTO bank.account_type VALUES
    (1, 'Savings', 'Bears interest'), (2, 'Checking', 'For daily payments'), (3, 'Credit', 'May be overdrawn'),
    (4, 'Loan', 'Carries a debt'), (5, 'Investment', 'Holds money for securities');

CREATE TABLE bank.card_type (id smallint PRIMARY KEY, name text NOT NULL UNIQUE, description text NOT NULL);
INSERT INTO bank.card_type VALUES
    (1, 'Debit', 'Pays at once'), (2, 'Credit', 'Pays at the end of a month'), (3, 'Prepaid', 'Pays what was loaded'),
    (4, 'Gold', 'Credit with insurance'), (5, 'Platinum', 'Credit with insurance and a higher limit');

CREATE TABLE bank.loan_type (id smallint PRIMARY KEY, name text NOT NULL UNIQUE, description text NOT NULL);
INSERT INTO bank.loan_type VALUES
    (1, 'Personal', 'For any purpose'), (2, 'Mortgage', 'For a house'), (3, 'Auto', 'For a car'),
    (4, 'Business', 'For a company'), (5, 'Education', 'For a course of studies');

CREATE TABLE bank.branch (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name <> ''),
    city text
);

CREATE TABLE bank.employee (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    branch_id bigint NOT NULL REFERENCES bank.branch,
    name text NOT NULL CHECK (name <> ''),
    position text
);

CREATE TABLE bank.customer (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    type_id smallint NOT NULL DEFAULT 1 REFERENCES bank.customer_type,
    status_id smallint NOT NULL DEFAULT 1 REFERENCES bank.customer_status,
    name text NOT NULL CHECK (name <> ''),
    email text NOT NULL CHECK (length(email) <= 254 AND email ~ '^[^@[:space:]]+@[^@[:space:]]+$'),
    phone text,
    address text,
    minimum_balance numeric(20, 4) NOT NULL DEFAULT 0
        CONSTRAINT customer_minimum_is_not_negative CHECK (minimum_balance >= 0 AND minimum_balance <> 'NaN'),
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX customer_email_without_case ON bank.customer (lower(email));

CREATE SEQUENCE bank.account_number START 1000000001;
-- A customer's account, or one of the bank's own: then `purpose` says what for.
CREATE TABLE bank.account (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    number text NOT NULL UNIQUE DEFAULT nextval('bank.account_number')::text CHECK (number ~ '^[A-Za-z0-9-]+$'),
    customer_id bigint REFERENCES bank.customer,
    branch_id bigint REFERENCES bank.branch,
    type_id smallint REFERENCES bank.account_type,
    purpose text CHECK (purpose IN ('Cash', 'Opening', 'Interest', 'Loans', 'Liquidity')),
    currency text NOT NULL,
    digits smallint NOT NULL,
    balance numeric(20, 4) NOT NULL DEFAULT 0,
    held numeric(20, 4) NOT NULL DEFAULT 0 CHECK (held >= 0),
    minimum_balance numeric(20, 4) CHECK (minimum_balance <> 'NaN'),
    customer_minimum numeric(20, 4),
    status_id smallint NOT NULL DEFAULT 1 REFERENCES bank.account_status,
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at timestamptz,
    UNIQUE (purpose, currency),
    UNIQUE (id, customer_id),
    FOREIGN KEY (currency, digits) REFERENCES bank.currency (code, digits),
    CONSTRAINT amount_has_digits_of_currency CHECK (
        scale(trim_scale(balance)) <= digits AND scale(trim_scale(held)) <= digits),
    CONSTRAINT account_has_an_owner CHECK (
        CASE WHEN purpose IS NULL THEN customer_id IS NOT NULL AND branch_id IS NOT NULL AND type_id IS NOT NULL
        ELSE customer_id IS NULL END),
    -- The account's own minimum overrides the customer's; a closed account is empty whatever its minimum was.
    CONSTRAINT balance_not_below_minimum CHECK (
        status_id = 4 OR balance - held >= coalesce(minimum_balance, customer_minimum)),
    CONSTRAINT closed_account_is_empty CHECK (
        CASE WHEN status_id = 4 THEN balance = 0 AND held = 0 AND closed_at IS NOT NULL ELSE closed_at IS NULL END)
) WITH (fillfactor = 50); -- balances are updated in place
CREATE INDEX ON bank.account (customer_id);

CREATE TABLE bank.card (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES bank.customer,
    account_id bigint NOT NULL,
    type_id smallint NOT NULL REFERENCES bank.card_type,
    last_four text NOT NULL CHECK (last_four ~ '^[0-9]{4}$'),
    expires_on date NOT NULL,
    is_active boolean NOT NULL DEFAULT true,
    issued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT card_is_for_the_customers_account FOREIGN KEY (account_id, customer_id)
        REFERENCES bank.account (id, customer_id)
);

CREATE TABLE bank.transaction (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    type_id smallint NOT NULL REFERENCES bank.transaction_type,
    employee_id bigint REFERENCES bank.employee,
    idempotency_key text NOT NULL UNIQUE CHECK (idempotency_key <> ''),
    request_hash text NOT NULL,
    posted_at timestamptz NOT NULL,
    effective_at timestamptz NOT NULL,
    reverses bigint UNIQUE REFERENCES bank.transaction
);

CREATE TABLE bank.entry (
    transaction_id bigint NOT NULL REFERENCES bank.transaction,
    line smallint NOT NULL CHECK (line > 0),
    account_id bigint NOT NULL REFERENCES bank.account,
    amount numeric(20, 4) NOT NULL CHECK (amount <> 0 AND amount <> 'NaN'),
    balance_after numeric(20, 4) NOT NULL,
    PRIMARY KEY (transaction_id, line)
);
CREATE INDEX ON bank.entry (account_id, transaction_id);

CREATE TABLE bank.loan (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES bank.customer,
    type_id smallint NOT NULL REFERENCES bank.loan_type,
    status_id smallint NOT NULL DEFAULT 1 REFERENCES bank.loan_status,
    currency text NOT NULL REFERENCES bank.currency,
    principal numeric(20, 4) NOT NULL CHECK (principal > 0 AND principal <> 'NaN'),
    outstanding numeric(20, 4) NOT NULL,
    annual_rate numeric(7, 4) NOT NULL CHECK (annual_rate BETWEEN 0 AND 100),
    months smallint NOT NULL CHECK (months BETWEEN 1 AND 600),
    starts_on date NOT NULL,
    transaction_id bigint NOT NULL UNIQUE REFERENCES bank.transaction,
    CONSTRAINT loan_is_not_overpaid CHECK (outstanding BETWEEN 0 AND principal)
);

CREATE TABLE bank.loan_payment (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    loan_id bigint NOT NULL REFERENCES bank.loan,
    transaction_id bigint NOT NULL UNIQUE REFERENCES bank.transaction,
    account_id bigint NOT NULL REFERENCES bank.account,
    paid numeric(20, 4) NOT NULL CHECK (paid > 0),
    principal numeric(20, 4) NOT NULL CHECK (principal >= 0),
    interest numeric(20, 4) NOT NULL CHECK (interest >= 0),
    CONSTRAINT payment_is_principal_and_interest CHECK (principal + interest = paid)
);
CREATE INDEX ON bank.loan_payment (loan_id);

CREATE TABLE bank.hold (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id bigint NOT NULL REFERENCES bank.account,
    amount numeric(20, 4) NOT NULL CHECK (amount > 0 AND amount <> 'NaN'),
    status text NOT NULL DEFAULT 'Open' CHECK (status IN ('Open', 'Captured', 'Released')),
    placed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    transaction_id bigint UNIQUE REFERENCES bank.transaction,
    CONSTRAINT hold_ends_once CHECK (
        (status = 'Open') = (ended_at IS NULL) AND (status = 'Captured') = (transaction_id IS NOT NULL))
);
CREATE INDEX ON bank.hold (account_id) WHERE status = 'Open';

-- What a client asked for by a key, and the answer that a replay gets. Postings keep theirs in `transaction`.
CREATE TABLE bank.request (
    key text PRIMARY KEY CHECK (key <> ''),
    function text NOT NULL,
    request jsonb NOT NULL,
    answer jsonb,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
