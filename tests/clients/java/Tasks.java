import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;

/**
 * Runs each task with each way that the PostgreSQL JDBC driver has to send it, on a new connection
 * each time, and prints one line per run: mode, commit, fetch size, task, outcome; separated by tabs.
 * The outcome is the number of rows, or the SQLSTATE and the message.
 *
 * Arguments: JDBC URL, user, password, and a file with one task per line: name, kind (read, write,
 * prepared, batch), statement; separated by tabs.
 */
public final class Tasks {
    private static final String[] MODES = {"simple", "extended", "extendedForPrepared"};
    private static final int[] FETCH_SIZES = {1, 2, 100, 1000};

    private record Task(String name, String kind, String statement) {}

    public static void main(String[] arguments) throws Exception {
        List<Task> tasks = new ArrayList<>();
        for (String line : Files.readAllLines(Path.of(arguments[3]), StandardCharsets.UTF_8)) {
            String[] fields = line.split("\t", 3);
            tasks.add(new Task(fields[0], fields[1], fields[2]));
        }
        for (String mode : MODES) {
            for (boolean autocommit : new boolean[] {true, false}) {
                for (int fetchSize : FETCH_SIZES) {
                    for (Task task : tasks) {
                        Properties properties = new Properties();
                        properties.setProperty("user", arguments[1]);
                        properties.setProperty("password", arguments[2]);
                        properties.setProperty("preferQueryMode", mode);
                        String outcome;
                        try (Connection connection =
                                DriverManager.getConnection(arguments[0], properties)) {
                            connection.setAutoCommit(autocommit);
                            outcome = run(connection, task, fetchSize);
                        } catch (SQLException error) {
                            outcome = error.getSQLState() + " " + error.getMessage();
                        }
                        System.out.println(
                                String.join(
                                        "\t",
                                        mode,
                                        autocommit ? "autocommit" : "transaction",
                                        Integer.toString(fetchSize),
                                        task.name(),
                                        outcome.replace('\n', ' ')));
                    }
                }
            }
        }
    }

    private static String run(Connection connection, Task task, int fetchSize)
            throws SQLException {
        int rows;
        switch (task.kind()) {
            case "write" -> {
                try (Statement statement = connection.createStatement()) {
                    rows = statement.executeUpdate(task.statement());
                }
            }
            case "prepared" -> {
                // More often than prepareThreshold (5): the driver goes on with a named statement.
                rows = 0;
                try (PreparedStatement statement =
                        connection.prepareStatement(task.statement())) {
                    statement.setFetchSize(fetchSize);
                    for (int i = 1; i <= 7; i++) {
                        statement.setInt(1, i);
                        rows += count(statement.executeQuery());
                    }
                }
            }
            case "batch" -> {
                rows = 0;
                try (PreparedStatement statement =
                        connection.prepareStatement(task.statement())) {
                    for (int i = 1; i <= 7; i++) {
                        statement.setInt(1, i);
                        statement.addBatch();
                    }
                    for (int changed : statement.executeBatch()) {
                        rows += changed;
                    }
                }
            }
            default -> {
                try (Statement statement = connection.createStatement()) {
                    statement.setFetchSize(fetchSize);
                    rows = count(statement.executeQuery(task.statement()));
                }
            }
        }
        if (!connection.getAutoCommit()) {
            connection.commit();
        }
        return Integer.toString(rows);
    }

    private static int count(ResultSet result) throws SQLException {
        try (result) {
            int rows = 0;
            while (result.next()) {
                result.getString(1);
                rows++;
            }
            return rows;
        }
    }

    private Tasks() {}
}
