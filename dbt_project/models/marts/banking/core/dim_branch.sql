select
    md5(concat_ws('|', branch.source, branch.id)) as branch_key,
    branch.source,
    branch.id as branch_id,
    branch.name,
    branch.city,
    count(employee.id) as employee_count
from {{ source('bank', 'branch') }} as branch
left join {{ source('bank', 'employee') }} as employee
    on employee.source = branch.source and employee.branch_id = branch.id
group by all
order by branch.source, branch.id
