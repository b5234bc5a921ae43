//! What Hologres' query log, `hologres.hg_query_log`, says of reads that failed on encrypted data. All
//! statements that fail are in it, for a month; those of others only for a superuser or a member of
//! `pg_read_all_stats`.

use super::ask::{Ask, Unanswered};

/// The days that are looked back.
pub(crate) const DAYS: u32 = 7;

/// So many applications and users are told of.
const MOST: usize = 20;

/// Reads of one application and user that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedReads {
    /// Its `application_name`; empty if it has none.
    pub application: String,
    /// The user's name.
    pub user: String,
    /// How many statements failed.
    pub count: u64,
    /// When the last one began, as the server prints it.
    pub last: String,
}

/// The reads of the present database that met HQE's error and did not succeed in the same session
/// afterwards, as those do that Osprey runs again. (A success of less than
/// `log_min_duration_statement` is not in the log.) The most frequent ones come first.
pub(super) async fn failed_reads(from: &mut impl Ask) -> Result<Vec<FailedReads>, Unanswered> {
    let statement = format!(
        "SELECT coalesce(failed.application_name, ''), failed.usename, count(*), \
                pg_catalog.max(failed.query_start) \
         FROM hologres.hg_query_log AS failed \
         WHERE failed.datname = pg_catalog.current_database() AND failed.status = 'FAILED' \
           AND failed.query_start > pg_catalog.now() - interval '{DAYS} days' \
           AND failed.message LIKE '%PanguParameterInvalidException%' \
           AND NOT EXISTS (SELECT 1 FROM hologres.hg_query_log AS again \
                           WHERE again.pid = failed.pid AND again.digest = failed.digest \
                             AND again.status = 'SUCCESS' \
                             AND again.query_start >= failed.query_start) \
         GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT {MOST}"
    );
    let rows = from.ask(&statement).await?;
    let reads = rows.into_iter().filter_map(|row| {
        let mut columns = row.into_iter().map(Option::unwrap_or_default);
        Some(FailedReads {
            application: columns.next()?,
            user: columns.next()?,
            count: columns.next()?.parse().ok()?,
            last: columns.next()?,
        })
    });
    Ok(reads.collect())
}
