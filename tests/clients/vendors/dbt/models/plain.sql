select id, label from {{ source('maxcompute', 'items') }}
