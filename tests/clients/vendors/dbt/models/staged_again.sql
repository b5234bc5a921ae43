{{ config(materialized='view') }}
select * from {{ ref('staged') }} where id <= 100
