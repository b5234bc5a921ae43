select team, count(*) as salaries, sum(amount) as total from {{ ref('paid') }} group by team
