//! The keywords that decide what a statement is and where its relations stand.

/// A word of at most 16 bytes in lower case as one integer, so that looking a keyword up is a
/// handful of integer comparisons.
const fn pack(word: &[u8]) -> u128 {
    let mut bytes = [0_u8; 16];
    let mut index = 0;
    while index < word.len() && index < 16 {
        bytes[index] = word[index].to_ascii_lowercase();
        index += 1;
    }
    u128::from_le_bytes(bytes)
}

macro_rules! keywords {
    ($($variant:ident $text:literal)*) => {
        /// A keyword, or `None` for any other word.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Keyword { None, $($variant),* }

        #[allow(non_upper_case_globals)]
        mod packed {
            $(pub(super) const $variant: u128 = super::pack($text.as_bytes());)*
        }

        impl Keyword {
            /// The keyword that an unquoted word is.
            pub(crate) fn of(word: &[u8]) -> Self {
                if word.len() > 16 {
                    return Self::None;
                }
                match pack(word) {
                    $(packed::$variant => Self::$variant,)*
                    _ => Self::None,
                }
            }
        }
    };
}

keywords! {
    Abort "abort" All "all" Alter "alter" Analyse "analyse" Analyze "analyze" As "as"
    Authorization "authorization" Begin "begin" Call "call" Close "close" Comment "comment"
    Commit "commit" Conflict "conflict" Copy "copy" Create "create" Current "current"
    Database "database" Deallocate "deallocate" Declare "declare" Default "default"
    Delete "delete" Discard "discard" Distinct "distinct" Do "do" Drop "drop" End "end"
    Except "except" Execute "execute" Explain "explain" False "false" Fetch "fetch" For "for"
    From "from" Function "function" Grant "grant" Group "group" Having "having" If "if"
    Import "import" In "in" Index "index" Insert "insert" Intersect "intersect" Into "into"
    Is "is" Join "join" Key "key" Lateral "lateral" Limit "limit" Local "local" Lock "lock"
    Matched "matched" Materialized "materialized" Merge "merge" Move "move" No "no" Not "not"
    Off "off" Offset "offset" On "on" Only "only" Or "or" Order "order" Overwrite "overwrite"
    Plans "plans" Policy "policy" Prepare "prepare" Prepared "prepared" Procedure "procedure"
    Publication "publication" Recursive "recursive" Refresh "refresh" Release "release"
    Reset "reset" Returning "returning" Revoke "revoke" Role "role" Rollback "rollback"
    Routine "routine" Rows "rows" Rule "rule" Savepoint "savepoint" Schema "schema"
    Select "select" Sequence "sequence" Sequences "sequences" Session "session" Set "set"
    Share "share" Show "show" Start "start" Statistics "statistics" Stdin "stdin"
    Stdout "stdout" Subscription "subscription" Table "table" Tablespace "tablespace"
    Temp "temp" Temporary "temporary" Time "time" To "to" Transaction "transaction"
    Trigger "trigger" True "true" Truncate "truncate" Type "type" Uescape "uescape" Union "union"
    Unlogged "unlogged" Update "update" Using "using" Vacuum "vacuum" Values "values"
    Verbose "verbose" View "view" When "when" Where "where" Window "window" With "with"
}

impl Keyword {
    /// True for the words that cannot name a relation unless they are quoted: PostgreSQL's
    /// *reserved* words, as far as they matter after FROM.
    pub(crate) fn is_reserved(self) -> bool {
        use Keyword as K;
        matches!(
            self,
            K::All
                | K::As
                | K::Create
                | K::Default
                | K::Distinct
                | K::Except
                | K::Fetch
                | K::For
                | K::From
                | K::Group
                | K::Having
                | K::In
                | K::Intersect
                | K::Into
                | K::Is
                | K::Join
                | K::Lateral
                | K::Limit
                | K::Not
                | K::Offset
                | K::On
                | K::Only
                | K::Or
                | K::Order
                | K::Returning
                | K::Select
                | K::Table
                | K::To
                | K::Union
                | K::Using
                | K::When
                | K::Where
                | K::Window
                | K::With
        )
    }
}

/// Words beside the keywords that begin statements which write or change something and read no
/// relation.
pub(super) const READING_NO_RELATION: [&str; 9] = [
    "checkpoint",
    "cluster",
    "listen",
    "load",
    "notify",
    "reassign",
    "reindex",
    "security",
    "unlisten",
];

/// True if one of these words, in lower case, may stand in a text, in whatever letters and also within its
/// strings.
pub(super) fn may_hold(text: &[u8], words: &[&[u8]]) -> bool {
    let text = text.to_ascii_lowercase();
    let holds = |word: &&[u8]| memchr::memmem::find(&text, word).is_some();
    words.iter().any(holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_does_not_matter_and_length_does() {
        assert_eq!(Keyword::of(b"SeLeCt"), Keyword::Select);
        assert_eq!(Keyword::of(b"selects"), Keyword::None);
        assert_eq!(Keyword::of(b"selec"), Keyword::None);
        assert_eq!(Keyword::of(b""), Keyword::None);
        assert_eq!(Keyword::of(b"authorization_and_more"), Keyword::None);
    }
}
