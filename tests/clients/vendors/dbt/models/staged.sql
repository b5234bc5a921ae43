{{ config(materialized='view') }}
select id, name, amount, paid, id % 4 as team from {{ source('maxcompute', 'salaries') }} where id <= 200
