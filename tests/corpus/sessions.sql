-- The database of sessions.txt. Relations of the project byok_prj are encrypted.
create schema ods; create schema mart; create schema calc; create schema desk;
create foreign table ods.trade(id int8, shop text, paid numeric) server odps_server options(project_name 'byok_prj', table_name 'trade');
create foreign table ods.member(id int8, city text) server odps_server options(project_name 'byok_prj#crm', table_name 'member');
create foreign table ods.calendar(day date) server odps_server options(project_name 'open_prj', table_name 'calendar');
create foreign table ods."Select"(id int8) server odps_server options(project_name 'byok_prj', table_name 'sel');
create foreign table ods."order"(id int8) server odps_server options(project_name 'byok_prj', table_name 'ord');
create table mart.shop(shop text primary key, trade text); create table mart.result(id int8, shop text);
create table desk.trade(id int8);

-- functions
create function calc.total() returns bigint language sql as 'select count(*) from ods.trade';
create function calc.variable() returns int language plpgsql as $$ declare trade int := 1; begin return trade; end $$;
create function calc.title() returns text language sql as $$ select 'ods.trade'::text $$;
create function calc.remark() returns int language plpgsql as $$ begin return 1; -- once from ods.trade
end $$;
create function calc.on_desk() returns bigint language sql set search_path = desk as 'select count(*) from trade';
create function calc.on_ods() returns bigint language plpgsql set search_path = ods, desk as $$ begin return count(*) from trade; end $$;
create function calc.on_any() returns bigint language plpgsql as $$ begin return count(*) from trade; end $$;
create function calc.shout(t text) returns text language sql as 'select upper(t) || ''!''';
create function calc.shout_twice(t text) returns text language plpgsql as $$ begin return calc.shout(calc.shout(t)); end $$;
create function calc.run(t text) returns bigint language plpgsql as $$ declare n bigint; begin execute t into n; return n; end $$;
create function calc.run_it(t text) returns bigint language sql as 'select calc.run(t)';
create function calc.run_fixed() returns bigint language plpgsql as $$ begin return calc.run('select count(*) from ods.trade'); end $$;
create function public.week(t text) returns bigint language sql as 'select count(*) from ods.trade';
create procedure calc.fill() language plpgsql as $$ begin insert into mart.result select id, shop from ods.trade; end $$;
create procedure calc.tidy(t text) language plpgsql as $$ begin delete from mart.result where shop = t; end $$;

-- what reads when it is written, and through what inherits
create materialized view mart.stored as select shop, sum(paid) paid from ods.trade group by shop with data;
create view mart.over_stored as select * from mart.stored;
create function calc.cached() returns bigint language sql as 'select count(*) from mart.stored';
create procedure calc.renew() language plpgsql as $$ begin refresh materialized view mart.stored; end $$;
create table mart.ruled(id int8);
create rule also as on insert to mart.ruled do also insert into mart.result select id, shop from ods.trade;
create table mart.parent(id int8, city text);
create foreign table mart.child() inherits (mart.parent) server odps_server options(project_name 'byok_prj', table_name 'child');
create foreign table ods.订单(id int8, name text) server odps_server options(project_name 'byok_prj', table_name 'orders'); create foreign table ods.功能表(id int8) server odps_server options(project_name 'byok_prj', table_name 'menu'); create foreign table ods.갂(id int8) server odps_server options(project_name 'byok_prj', table_name 'gakk');
create table mart.客户(id int8, name text); create table mart.丄(id int8); create view mart.订单表 as select * from ods.订单;
create view mart.over_trade as select id from ods.trade;

-- roads that a role, or the way of reading, may pass by
create table mart.guarded(id int8, city text); alter table mart.guarded enable row level security;
create policy own on mart.guarded using (id in (select id from ods.trade));
create role guest login; grant usage on schema mart to guest;
create foreign table ods."Mixed Case"(id int8) server odps_server options(project_name 'byok_prj', table_name 'mixed');
create function calc.clears() returns void language plpgsql as $$ begin drop table if exists pg_temp.trade; end $$;
create function calc.counts() returns bigint language plpgsql as $$ begin return count(*) from mart.shop; end $$;

-- what stands above others
create view mart.below as select id, shop from mart.result; create view mart.above as select id from mart.below; create view mart.topmost as select count(*) from mart.above;
create view mart.over_calendar as select day from ods.calendar; create view mart.over_shop as select shop from mart.shop;
create view mart.counted as select calc.counts() as n;
