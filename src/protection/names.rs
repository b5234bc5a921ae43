//! How unqualified names resolve in a session: its role and its search path.

/// What a session knows of how names resolve in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct NameContext {
    /// The present role's name: what `"$user"` means in the search path.
    pub user: String,
    /// The schemas of the search path in order, folded, with `$user` as it is. `None` if they are
    /// not certain (a temporary relation that may shadow others makes them so): then any relation
    /// of a name counts.
    pub search_path: Option<Vec<String>>,
}

impl NameContext {
    /// What a session knows that logged in as `user` with this search path, which is in the form in
    /// which SHOW prints it and clients give it at startup.
    pub fn new(user: &str, search_path: &str) -> Self {
        Self {
            user: user.to_owned(),
            search_path: split_search_path(search_path),
        }
    }

    /// True if a bare name may mean something in this schema.
    pub(super) fn may_find_in(&self, schema: &str) -> bool {
        let is_it = |on_path: &String| {
            let meant = if on_path == "$user" {
                &self.user
            } else {
                on_path
            };
            clip(meant.as_bytes()) == clip(schema.as_bytes())
        };
        let path = self.search_path.as_ref();
        path.is_none_or(|path| path.iter().any(is_it))
    }
}

/// PostgreSQL cuts identifiers to this many bytes (NAMEDATALEN - 1).
const MAX_IDENTIFIER: usize = 63;

/// Cuts a name as PostgreSQL cuts it, at a character's boundary.
pub(super) fn clip(name: &[u8]) -> &[u8] {
    let mut end = name.len();
    if end > MAX_IDENTIFIER {
        end = MAX_IDENTIFIER;
        while end > 0 && name[end] & 0xc0 == 0x80 {
            end -= 1;
        }
    }
    &name[..end]
}

/// The schemas of a search path, folded; `None` if it is not one (PostgreSQL,
/// `SplitIdentifierString`).
fn split_search_path(path: &str) -> Option<Vec<String>> {
    let mut schemas = Vec::new();
    let mut rest = path.trim();
    while !rest.is_empty() {
        let schema;
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut name = String::new();
            let mut characters = quoted.char_indices().peekable();
            let end = loop {
                match characters.next()? {
                    (_, '"') if matches!(characters.peek(), Some((_, '"'))) => {
                        characters.next();
                        name.push('"');
                    }
                    (at, '"') => break at,
                    (_, character) => name.push(character),
                }
            };
            schema = name;
            rest = quoted[end + 1..].trim_start();
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            schema = rest[..end].trim_end().to_ascii_lowercase();
            rest = &rest[end..];
        }
        if schema.is_empty() {
            return None;
        }
        schemas.push(schema);
        match rest.strip_prefix(',') {
            Some(behind) => rest = behind.trim_start(),
            None if rest.is_empty() => {}
            None => return None,
        }
    }
    Some(schemas)
}

#[cfg(test)]
mod tests {
    use super::split_search_path;

    #[test]
    fn search_paths_are_split_as_postgresql_splits_them() {
        let split = |path| split_search_path(path).map(|schemas| schemas.join("|"));
        assert_eq!(split("\"$user\", public").as_deref(), Some("$user|public"));
        assert_eq!(
            split("Sales,\"A \"\"b, c\" , x").as_deref(),
            Some("sales|A \"b, c|x")
        );
        assert_eq!(split("").as_deref(), Some(""));
        assert_eq!(split("\"open"), None);
        assert_eq!(split("a,,b"), None);
        assert_eq!(split("\"a\" b"), None);
    }
}
