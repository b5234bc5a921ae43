import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;

/**
 * Reads and writes until its time is over, in one session after the other. Prints which of its rows are
 * there ("ack"), may be there ("maybe") and cannot be there ("failed"), and what went wrong ("wrong").
 */
final class Soak {
    private Soak() {}

    public static void main(String[] arguments) throws Exception {
        String url = arguments[0];
        long end = System.nanoTime() + (long) (Double.parseDouble(arguments[3]) * 1e9);
        int number = 0;
        while (System.nanoTime() < end) {
            int before = number;
            boolean sent = false;
            Connection connection = null;
            try {
                connection = DriverManager.getConnection(url, arguments[1], arguments[2]);
                while (System.nanoTime() < end && number < before + 20) {
                    number++;
                    sent = true;
                    write(connection, number);
                    sent = false;
                    System.out.println("ack " + number);
                    read(connection);
                    Thread.sleep(20);
                }
            } catch (SQLException error) {
                boolean over = connection == null || !connection.isValid(5);
                if (sent) {
                    System.out.println((over ? "maybe " : "failed ") + number);
                }
                System.out.println("state " + error.getSQLState() + " " + error.getMessage().replace('\n', ' '));
                Thread.sleep(50);
            } finally {
                if (connection != null) {
                    try {
                        connection.close();
                    } catch (SQLException ignored) {
                        // It was lost before.
                    }
                }
            }
        }
        System.out.println("end");
    }

    private static void write(Connection connection, int number) throws SQLException {
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO soak VALUES ('jdbc', ?)")) {
            insert.setInt(1, number);
            insert.executeUpdate();
        }
    }

    private static void read(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement();
                ResultSet row = statement.executeQuery("SELECT count(*) FROM salaries")) {
            row.next();
            if (row.getInt(1) != 1000) {
                System.out.println("wrong " + row.getInt(1) + " rows");
            }
        }
    }
}
