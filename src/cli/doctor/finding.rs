//! What `osprey doctor` has found.

use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Level {
    /// Nothing need be done.
    Ok,
    /// Nothing need be done here; it is worth knowing should something fail all the same.
    Info,
    /// It works, and something about it should be mended.
    Warning,
    /// It does not work.
    Broken,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// How bad it is.
    pub(super) level: Level,
    /// What kind of finding it is. Scripts go by it, so it stays as it is when texts change.
    pub(super) code: &'static str,
    /// `configuration`, `upstream`, `database NAME`, `project NAME`, `role`, `vendor`.
    pub(super) subject: String,
    /// What was found.
    pub(super) found: String,
    /// What mends it, in words: the setting, the console's step, or whom to ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mend: Option<String>,
    /// The exact statement, where one mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sql: Option<String>,
}

impl Finding {
    pub(super) fn ok(
        code: &'static str,
        subject: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self {
            level: Level::Ok,
            code,
            subject: subject.into(),
            found: found.into(),
            mend: None,
            sql: None,
        }
    }

    /// A remark, and what to do should something fail all the same.
    pub(super) fn info(
        code: &'static str,
        subject: impl Into<String>,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            level: Level::Info,
            mend: Some(mend.into()),
            ..Self::ok(code, subject, found)
        }
    }

    pub(super) fn warning(
        code: &'static str,
        subject: impl Into<String>,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            level: Level::Warning,
            ..Self::info(code, subject, found, mend)
        }
    }

    pub(super) fn broken(
        code: &'static str,
        subject: impl Into<String>,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            level: Level::Broken,
            ..Self::info(code, subject, found, mend)
        }
    }

    /// The same, with the statement that mends it.
    pub(super) fn with_sql(self, sql: impl Into<String>) -> Self {
        Self {
            sql: Some(sql.into()),
            ..self
        }
    }
}

/// The worst of them.
pub(super) fn worst(findings: &[Finding]) -> Level {
    let levels = findings.iter().map(|finding| finding.level);
    levels.max().unwrap_or(Level::Ok)
}

/// How many are of this level.
pub(super) fn count(findings: &[Finding], level: Level) -> usize {
    findings.iter().filter(|f| f.level == level).count()
}
