{{ config(materialized='incremental', unique_key='id', incremental_strategy='delete+insert') }}
select id, name, amount from {{ source('maxcompute', 'salaries') }} where id <= 50
