select id, amount from {{ source('maxcompute', 'salaries') }} where id % 6 = 3 - 1 and id <= 60
