//! What a statement does beside reading relations: to settings, transactions, the catalogs and
//! SQL-level names.

/// Facts about a statement text (all of its statements together), one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Effects(pub u16);

impl Effects {
    /// SET, SET LOCAL or set_config() of the route's setting, under any of its names
    /// (`hg_experimental_enable_access_odps_orc_via_holo`, `hg_enable_access_odps_orc_via_holo`,
    /// `hg_experimental_external_catalog_routing`).
    pub const SETS_ROUTE: Self = Self(1);
    /// RESET of one of them, or `SET … TO DEFAULT`.
    pub const RESETS_ROUTE: Self = Self(1 << 1);
    /// RESET ALL or DISCARD ALL.
    pub const RESETS_ALL: Self = Self(1 << 2);
    /// After it the setting may be anything: set_config() whose name is not a plain literal, DO,
    /// CALL, SET ROLE, SET SESSION AUTHORIZATION.
    pub const ROUTE_DOUBT: Self = Self(1 << 3);
    /// BEGIN or START TRANSACTION.
    pub const BEGINS: Self = Self(1 << 4);
    /// COMMIT, END, ROLLBACK (also TO SAVEPOINT), ABORT, PREPARE TRANSACTION: settings made in
    /// the transaction may be gone.
    pub const ENDS: Self = Self(1 << 5);
    /// Something other than reading: DML, DDL, SELECT INTO, locking clauses, COPY FROM, CALL, DO,
    /// anything not recognised.
    pub const WRITES: Self = Self(1 << 6);
    /// It calls a function that is not known to be harmless to run twice.
    pub const CALLS_UNKNOWN: Self = Self(1 << 7);
    /// DDL that can change what is protected: CREATE/ALTER/DROP/IMPORT of (foreign) tables, views,
    /// materialized views, rules, schemas, databases, servers; ALTER DATABASE/ROLE … SET.
    pub const CHANGES_CATALOG: Self = Self(1 << 8);
    /// SET, RESET or set_config() of search_path, CREATE of a temporary relation, or anything else
    /// that changes how unqualified names resolve.
    pub const CHANGES_NAMES: Self = Self(1 << 9);
    /// It reads a MaxCompute foreign table (or what leads to one) whose project is not known to be
    /// encrypted, or a table of an external database (`extdb.schema.table`).
    pub const READS_FOREIGN: Self = Self(1 << 10);
    /// COPY … FROM STDIN: the server will ask for data.
    pub const COPY_IN: Self = Self(1 << 11);
    /// More than one statement in the text.
    pub const MULTIPLE: Self = Self(1 << 12);

    /// True if any bit of `other` is set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// An SQL-level name and what happens to it. Names are folded as PostgreSQL folds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameUse {
    /// `PREPARE name AS …`
    Prepare(String),
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
