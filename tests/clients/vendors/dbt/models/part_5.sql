select id, amount from {{ source('maxcompute', 'salaries') }} where id % 6 = 5 - 1 and id <= 60
