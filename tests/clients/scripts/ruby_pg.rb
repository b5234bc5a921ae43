# ruby-pg: each way to send a statement, a transaction, COPY, and single rows; prints what it got.
require "pg"

READ = "SELECT id, name FROM salaries WHERE id <= 3 ORDER BY id"
connection = PG.connect(dbname: ENV["PGDATABASE"])
show = ->(name, result) { puts "#{name} #{result.values.inspect} #{result.cmd_status}" }
show.("exec", connection.exec(READ))
show.("params", connection.exec_params("SELECT name FROM salaries WHERE id = $1", [7]))
connection.prepare("by_id", "SELECT name FROM salary_names WHERE id = $1")
3.times { |number| show.("prepared", connection.exec_prepared("by_id", [number + 1])) }
connection.transaction do |inside|
  show.("plain", inside.exec("SELECT count(*) FROM people"))
  show.("inside", inside.exec("SELECT count(*) FROM salaries"))
end
connection.copy_data("COPY (#{READ}) TO STDOUT") do
  while (row = connection.get_copy_data)
    puts row
  end
end
connection.send_query("SELECT id FROM salaries WHERE id <= 2 ORDER BY id")
connection.set_single_row_mode
while (result = connection.get_result)
  puts result.values.inspect
end
begin
  connection.exec("SELECT 1 / (id - 2) FROM salaries WHERE id <= 3 ORDER BY id")
rescue PG::Error => error
  puts error.result.error_field(PG::Result::PG_DIAG_SQLSTATE), error.message
end
show.("after", connection.exec("SELECT count(*) FROM items"))
