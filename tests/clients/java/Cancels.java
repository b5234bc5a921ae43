import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;

/** Cancels statements while they run, each from another thread; prints what went wrong. */
final class Cancels {
    private static final String CANCELED = "57014";

    private Cancels() {}

    public static void main(String[] arguments) throws Exception {
        String url = arguments[0];
        String user = arguments[1];
        String password = arguments[2];
        int rounds = Integer.parseInt(arguments[3]);
        try (Connection connection = DriverManager.getConnection(url, user, password);
                Connection watching = DriverManager.getConnection(url, user, password)) {
            for (int round = 0; round < rounds; round++) {
                once(connection, watching, round);
            }
        }
        System.out.println(rounds + " rounds");
    }

    private static void once(Connection connection, Connection watching, int round) throws Exception {
        String text = "SELECT pg_sleep(60) /* jdbc " + round + " */";
        try (Statement statement = connection.createStatement()) {
            Thread cancelling = new Thread(() -> cancelOnceItRuns(statement, watching, text));
            cancelling.start();
            try {
                statement.executeQuery(text);
                System.out.println("not cancelled in round " + round);
            } catch (SQLException error) {
                if (!CANCELED.equals(error.getSQLState())) {
                    System.out.println(round + ": " + error);
                }
            }
            cancelling.join();
            try (ResultSet row = statement.executeQuery("SELECT " + round + " FROM pg_sleep(0.005)")) {
                row.next();
                if (row.getInt(1) != round) {
                    System.out.println("round " + round + " saw " + row.getInt(1));
                }
            }
        }
    }

    private static void cancelOnceItRuns(Statement statement, Connection watching, String text) {
        String running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = ?";
        try (PreparedStatement asking = watching.prepareStatement(running)) {
            asking.setString(1, text);
            while (true) {
                try (ResultSet row = asking.executeQuery()) {
                    row.next();
                    if (row.getInt(1) > 0) {
                        break;
                    }
                }
                Thread.sleep(2);
            }
            statement.cancel();
        } catch (SQLException | InterruptedException error) {
            System.out.println("cancelling: " + error);
        }
    }
}
