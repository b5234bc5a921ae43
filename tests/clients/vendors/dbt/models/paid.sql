select s.id, s.amount, s.team, t.team as name from {{ ref('staged_again') }} s
join {{ ref('teams') }} t on t.id = s.team
