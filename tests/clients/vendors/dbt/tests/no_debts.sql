select * from {{ source('maxcompute', 'salaries') }} where amount < 0
