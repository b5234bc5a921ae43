//! What a statement does beside reading relations: to settings, transactions, the catalogs and
//! SQL-level names.

use bitflags::bitflags;

use super::lexing::Backslash;

bitflags! {
    /// What the statements of a text do, all of them together, one bit for each kind of effect.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
    pub struct Effects: u16 {
        /// The text sets the route's setting, under any of its names
        /// (`hg_experimental_enable_access_odps_orc_via_holo`, `hg_enable_access_odps_orc_via_holo`,
        /// `hg_experimental_external_catalog_routing`), by SET, SET LOCAL or set_config().
        const SETS_ROUTE = 1;
        /// The text resets one of these settings, by RESET or `SET … TO DEFAULT`.
        const RESETS_ROUTE = 1 << 1;
        /// The text resets all settings, by RESET ALL or DISCARD ALL.
        const RESETS_ALL = 1 << 2;
        /// Once the text has run, the route's setting may have any value: by a set_config() whose name
        /// is not a plain literal, by DO, CALL, SET ROLE or SET SESSION AUTHORIZATION.
        const ROUTE_DOUBT = 1 << 3;
        /// The text begins a transaction, by BEGIN or START TRANSACTION.
        const BEGINS = 1 << 4;
        /// The text ends a transaction, or goes back within it, so that settings made in it may be
        /// gone: COMMIT, END, ROLLBACK (also TO SAVEPOINT), ABORT, PREPARE TRANSACTION.
        const ENDS = 1 << 5;
        /// The text does something other than reading, and more than [`Effects::UNDONE_WHOLE`] says: DDL,
        /// SELECT INTO, INSERT OVERWRITE, locking clauses, COPY FROM, CALL, DO, or anything that is not
        /// recognised.
        const WRITES = 1 << 6;
        /// The text calls a function that is not known to be harmless to run twice.
        const CALLS_UNKNOWN = 1 << 7;
        /// The text has DDL that can change what is protected: CREATE, ALTER, DROP or IMPORT of
        /// (foreign) tables, views, materialized views, rules, schemas, databases or servers; ALTER
        /// DATABASE or ROLE … SET.
        const CHANGES_CATALOG = 1 << 8;
        /// The text changes how unqualified names resolve: it sets or resets search_path, creates a
        /// temporary relation, or the like.
        const CHANGES_NAMES = 1 << 9;
        /// The text reads a MaxCompute foreign table (or what leads to one) whose project is not known
        /// to be encrypted, or a table of an external database (`extdb.schema.table`).
        const READS_FOREIGN = 1 << 10;
        /// The text has a COPY … FROM STDIN: the server will ask the client for data.
        const COPY_IN = 1 << 11;
        /// The text has more than one statement.
        const MULTIPLE = 1 << 12;
        /// The text has a COPY … TO STDOUT whose first line names the columns.
        const COPY_HEADER = 1 << 13;
        /// The text writes with statements of which nothing is left if they fail: INSERT, UPDATE, DELETE,
        /// MERGE, CREATE TABLE AS and CREATE MATERIALIZED VIEW.
        const UNDONE_WHOLE = 1 << 14;
        /// The text calls a function that is none of PostgreSQL's or Hologres' own: its body may keep plans
        /// from one run to the next.
        const KEEPS_PLANS = 1 << 15;
    }
}

/// An SQL-level name (of a statement that PREPARE made, or of a cursor) and what a text does with
/// it. Names are folded as PostgreSQL folds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameUse {
    /// `PREPARE name AS …`
    Prepare {
        /// The name that the statement gets.
        name: String,
        /// The text behind the AS, in the server's encoding.
        text: Box<[u8]>,
        /// What a backslash is in that text.
        backslash: Backslash,
    },
    /// `EXECUTE name`, also `EXPLAIN … EXECUTE name` and `CREATE TABLE AS EXECUTE name`.
    Execute(String),
    /// `DEALLOCATE name`; `None`: `ALL`.
    Deallocate(Option<String>),
    /// `DECLARE name CURSOR …`
    Declare(String),
    /// `FETCH` or `MOVE … name`.
    Fetch(String),
    /// `CLOSE name`; `None`: `ALL`.
    Close(Option<String>),
}
