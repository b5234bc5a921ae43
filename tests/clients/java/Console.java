import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;

/** The console through the PostgreSQL JDBC driver: what it shows, in each query mode. */
public final class Console {
    private Console() {}

    public static void main(String[] arguments) throws SQLException {
        for (String mode : new String[] {"simple", "extended", "extendedForPrepared"}) {
            String url = arguments[0] + "&preferQueryMode=" + mode;
            try (Connection connection = DriverManager.getConnection(url, arguments[1], arguments[2])) {
                use(connection);
            }
        }
        System.out.println("done");
    }

    private static void use(Connection connection) throws SQLException {
        check(connection.isValid(5), "valid");
        DatabaseMetaData about = connection.getMetaData();
        check(about.getDatabaseProductVersion().startsWith("15"), "version");
        try (ResultSet tables = about.getTables(null, null, "%", new String[] {"TABLE"})) {
            while (tables.next()) {
                tables.getString("TABLE_NAME");
            }
        }
        String query = "SELECT setting, limit_value FROM limits WHERE setting = ? AND limit_value > ?";
        try (PreparedStatement statement = connection.prepareStatement(query)) {
            // More often than prepareThreshold, so that values become binary.
            for (int round = 0; round < 7; round++) {
                statement.setString(1, "limits.max_sessions");
                statement.setLong(2, 1L);
                try (ResultSet rows = statement.executeQuery()) {
                    check(rows.next(), "a row");
                    check(rows.getString(1).equals("limits.max_sessions"), "the setting");
                    check(rows.getLong("limit_value") == 10_000L, "its value");
                    check(!rows.next(), "one row");
                }
            }
        }
        connection.setAutoCommit(false);
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(3);
            int count = 0;
            try (ResultSet rows = statement.executeQuery("SHOW STATS")) {
                while (rows.next()) {
                    count++;
                }
            }
            check(count > 30, "stats");
            try {
                statement.execute("FROBNICATE");
                throw new IllegalStateException("no error");
            } catch (SQLException error) {
                check(error.getSQLState().equals("42601"), error.getSQLState());
            }
            connection.rollback();
        }
        check(connection.getTransactionIsolation() == Connection.TRANSACTION_READ_COMMITTED, "isolation");
        connection.commit();
    }

    private static void check(boolean right, String what) {
        if (!right) {
            throw new IllegalStateException(what);
        }
    }
}
