import java.io.StringReader;
import java.io.StringWriter;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.Timer;
import java.util.TimerTask;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;

/**
 * Does what the PostgreSQL JDBC driver can beside plain queries, and prints all that it is told: what a
 * BI tool asks of the catalogs, COPY, batches, savepoints, cancel, notices, errors.
 *
 * <p>Arguments: JDBC URL, user, password. With "login" as the fourth it logs in and prints who it is.
 */
public final class Session {
    public static void main(String[] arguments) throws Exception {
        try (Connection connection =
                DriverManager.getConnection(arguments[0], arguments[1], arguments[2])) {
            if (arguments.length > 3) {
                query(connection, "SELECT current_user");
                return;
            }
            metadata(connection.getMetaData());
            batches(connection);
            transactions(connection);
            copy(connection);
            others(connection);
        } catch (SQLException error) {
            print(error);
            System.exit(1);
        }
    }

    private static void print(SQLException error) {
        System.out.println(error.getSQLState() + " " + error.getMessage());
    }

    private static void print(ResultSet rows) throws SQLException {
        int columns = rows.getMetaData().getColumnCount();
        while (rows.next()) {
            StringBuilder line = new StringBuilder();
            for (int column = 1; column <= columns; column++) {
                line.append(rows.getString(column)).append('\t');
            }
            System.out.println(line);
        }
        rows.close();
    }

    private static void query(Connection connection, String statement) throws SQLException {
        try (Statement asked = connection.createStatement()) {
            print(asked.executeQuery(statement));
        }
    }

    private static void fails(Connection connection, String statement) throws SQLException {
        try {
            query(connection, statement);
        } catch (SQLException error) {
            print(error);
        }
    }

    private static void metadata(DatabaseMetaData metadata) throws SQLException {
        System.out.println(metadata.getDatabaseProductVersion());
        print(metadata.getCatalogs());
        print(metadata.getSchemas());
        print(metadata.getTables(null, null, null, null));
        print(metadata.getColumns(null, null, "%a%", null));
        print(metadata.getTypeInfo());
        print(metadata.getFunctions(null, "hologres", null));
        for (String table : new String[] {"people", "notes", "salaries", "salary_names"}) {
            print(metadata.getPrimaryKeys(null, null, table));
            print(metadata.getIndexInfo(null, null, table, false, true));
            print(metadata.getImportedKeys(null, null, table));
            print(metadata.getTablePrivileges(null, null, table));
        }
    }

    private static void batches(Connection connection) throws SQLException {
        String statement = "INSERT INTO copied SELECT id, name, 1000 / (? - id) FROM salaries WHERE id = ?";
        try (PreparedStatement batch = connection.prepareStatement(statement)) {
            for (int row = 1; row <= 40; row++) {
                batch.setInt(1, row == 30 ? 30 : 1000);
                batch.setInt(2, row);
                batch.addBatch();
            }
            batch.executeBatch();
        } catch (BatchUpdateException error) {
            print(error);
            System.out.println(error.getNextException().getMessage());
        }
        query(connection, "SELECT * FROM copied ORDER BY id");
        query(connection, "DELETE FROM copied RETURNING *");
    }

    private static void transactions(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        Savepoint savepoint = connection.setSavepoint("here");
        fails(connection, "SELECT 1 / (id - 1) FROM salaries");
        fails(connection, "SELECT count(*) FROM salaries");
        connection.rollback(savepoint);
        query(connection, "SELECT count(*) FROM salaries");
        connection.rollback();
        connection.setReadOnly(true);
        fails(connection, "INSERT INTO copied SELECT id FROM salaries RETURNING id");
        connection.rollback();
        connection.setReadOnly(false);
        connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
        query(connection, "SELECT count(*) FROM salary_names");
        connection.commit();
        connection.setAutoCommit(true);
    }

    private static void copy(Connection connection) throws Exception {
        CopyManager manager = connection.unwrap(PGConnection.class).getCopyAPI();
        StringWriter text = new StringWriter();
        manager.copyOut("COPY (SELECT * FROM salaries WHERE id < 50) TO STDOUT", text);
        System.out.println(text);
        manager.copyIn("COPY copied (id, name) FROM STDIN", new StringReader("1\tone\n2\ttwo\n"));
        try {
            manager.copyIn("COPY copied (id) FROM STDIN", new StringReader("x\n"));
        } catch (SQLException error) {
            print(error);
        }
        query(connection, "SELECT * FROM copied");
        query(connection, "DELETE FROM copied RETURNING *");
    }

    private static void others(Connection connection) throws SQLException {
        try (Statement slow = connection.createStatement()) {
            Timer timer = new Timer(true);
            timer.schedule(
                    new TimerTask() {
                        @Override
                        public void run() {
                            try {
                                slow.cancel();
                            } catch (SQLException error) {
                                print(error);
                            }
                        }
                    },
                    300);
            print(slow.executeQuery("SELECT pg_sleep(30), count(*) FROM salaries"));
        } catch (SQLException error) {
            print(error);
        }
        try (Statement slow = connection.createStatement()) {
            // The driver cancels by itself.
            slow.setQueryTimeout(1);
            print(slow.executeQuery("SELECT pg_sleep(30), count(*) FROM salaries"));
        } catch (SQLException error) {
            print(error);
        }
        try (Statement statement = connection.createStatement()) {
            statement.execute("DO $$ BEGIN RAISE NOTICE 'noted'; END $$");
            System.out.println(statement.getWarnings());
            statement.execute("LISTEN here; NOTIFY here, 'payload'");
            PGConnection unwrapped = connection.unwrap(PGConnection.class);
            for (PGNotification heard : unwrapped.getNotifications(10_000)) {
                System.out.println(heard.getName() + " " + heard.getParameter());
            }
        }
        System.out.println(connection.isValid(10));
    }
}
