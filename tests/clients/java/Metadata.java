import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;

/** Prints what DatabaseMetaData says of a schema's tables, and then what a prepared query says. */
public final class Metadata {
    private Metadata() {}

    /** Takes the URL, the user, the password, the schema and the name of a table. */
    public static void main(String[] args) throws SQLException {
        try (Connection connection = DriverManager.getConnection(args[0], args[1], args[2])) {
            DatabaseMetaData data = connection.getMetaData();
            String schema = args[3];
            String table = args[4];
            print("getSchemas", data.getSchemas());
            print("getCatalogs", data.getCatalogs());
            print("getTableTypes", data.getTableTypes());
            print("getTables", data.getTables(null, schema, "%", null));
            print("getTables TABLE", data.getTables(null, schema, null, new String[] {"TABLE", "VIEW"}));
            print("getColumns", data.getColumns(null, schema, table, "%"));
            print("getPrimaryKeys", data.getPrimaryKeys(null, schema, table));
            print("getIndexInfo", data.getIndexInfo(null, schema, table, false, true));
            print("getBestRowIdentifier", data.getBestRowIdentifier(null, schema, table, 2, true));
            print("getVersionColumns", data.getVersionColumns(null, schema, table));
            print("getImportedKeys", data.getImportedKeys(null, schema, table));
            print("getExportedKeys", data.getExportedKeys(null, schema, table));
            print("getCrossReference", data.getCrossReference(null, schema, table, null, schema, table));
            print("getTablePrivileges", data.getTablePrivileges(null, schema, table));
            print("getColumnPrivileges", data.getColumnPrivileges(null, schema, table, "%"));
            print("getFunctions", data.getFunctions(null, schema, "%"));
            print("getFunctionColumns", data.getFunctionColumns(null, schema, "%", "%"));
            print("getProcedures", data.getProcedures(null, schema, "%"));
            print("getUDTs", data.getUDTs(null, schema, "%", null));
            print("getTypeInfo", data.getTypeInfo());
            String sql = "SELECT name, active, id FROM " + schema + "." + table + " WHERE id > ? ORDER BY id";
            try (PreparedStatement query = connection.prepareStatement(sql)) {
                for (int run = 0; run < 7; run++) { // from the fifth on, the driver uses a named statement
                    query.setInt(1, 2);
                    ResultSet rows = query.executeQuery();
                    if (run == 6) {
                        print("query", rows);
                    }
                }
            }
        }
    }

    private static void print(String call, ResultSet rows) throws SQLException {
        ResultSetMetaData columns = rows.getMetaData();
        StringBuilder line = new StringBuilder(call);
        for (int at = 1; at <= columns.getColumnCount(); at++) {
            line.append(at == 1 ? ": " : ", ").append(columns.getColumnName(at));
        }
        System.out.println(line);
        while (rows.next()) {
            line = new StringBuilder("   ");
            for (int at = 1; at <= columns.getColumnCount(); at++) {
                line.append(at == 1 ? " " : " | ").append(rows.getString(at));
            }
            System.out.println(line);
        }
        rows.close();
    }
}
