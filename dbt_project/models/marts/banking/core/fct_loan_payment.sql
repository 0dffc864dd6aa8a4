select
    payment.source,
    payment.id as payment_id,
    payment.loan_id,
    md5(concat_ws('|', loan.source, loan.customer_id)) as customer_key,
    kind.name as loan_type,
    payment.transaction_id,
    payment.account_id,
    header.effective_at as paid_at,
    loan.currency,
    payment.paid,
    payment.principal,
    payment.interest
from {{ source('bank', 'loan_payment') }} as payment
join {{ source('bank', 'loan') }} as loan on loan.source = payment.source and loan.id = payment.loan_id
join {{ source('bank', 'transaction') }} as header
    on header.source = payment.source and header.id = payment.transaction_id
left join {{ source('bank', 'loan_type') }} as kind on kind.source = loan.source and kind.id = loan.type_id
order by payment.source, payment.id
