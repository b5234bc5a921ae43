-- The database of sessions.txt. Relations of the project byok_prj are encrypted.
create schema ods; create schema mart; create schema calc; create schema desk;
create foreign table ods.trade(id int8, shop text, paid numeric) server odps_server options(project_name 'byok_prj', table_name 'trade');
create foreign table ods.member(id int8, city text) server odps_server options(project_name 'byok_prj#crm', table_name 'member');
create foreign table ods.calendar(day date) server odps_server options(project_name 'open_prj', table_name 'calendar');
create table mart.shop(shop text primary key, trade text); create table mart.result(id int8, shop text);
create table desk.trade(id int8);
