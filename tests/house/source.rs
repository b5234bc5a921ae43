//! What the files of the crate name of each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

/// One file takes something from another.
#[derive(Debug)]
pub(crate) struct Arrow {
    /// The module of the file that takes.
    pub(crate) from: String,
    /// The module of the file that defines what is taken.
    pub(crate) to: String,
    from_path: String,
    to_path: String,
    line: usize,
    /// What is named, as it is written.
    names: String,
}

impl Arrow {
    pub(crate) fn room_from(&self) -> &str {
        room(&self.from)
    }

    pub(crate) fn room_to(&self) -> &str {
        room(&self.to)
    }
}

impl fmt::Display for Arrow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from_path,
            line,
            names,
            to_path,
            ..
        } = self;
        write!(
            formatter,
            "src/{from_path}:{line} takes {names} from src/{to_path}"
        )
    }
}

fn room(module: &str) -> &str {
    module.split("::").next().unwrap_or_default()
}

/// The crate's files, by their modules, without tests.
pub(crate) struct House {
    files: BTreeMap<String, File>,
    pub(crate) arrows: Vec<Arrow>,
}

/// What one file says.
#[derive(Default)]
struct File {
    path: String,
    text: String,
    /// Names that it hands on, and the paths that they stand for.
    handed_on: BTreeMap<String, Vec<String>>,
    named: Vec<Named>,
}

/// A path that a file names.
struct Named {
    line: usize,
    path: Vec<String>,
    /// The modules within the file in which it stands.
    within: usize,
}

impl House {
    /// The files under `src`.
    pub(crate) fn of_this_crate() -> Self {
        fn walk(directory: &Path, path: &str, found: &mut Vec<(String, String)>) {
            for entry in std::fs::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                let path = format!("{path}{}", entry.file_name().to_str().unwrap());
                if entry.path().is_dir() {
                    walk(&entry.path(), &format!("{path}/"), found);
                } else if entry
                    .path()
                    .extension()
                    .is_some_and(|extension| extension == "rs")
                {
                    found.push((path, std::fs::read_to_string(entry.path()).unwrap()));
                }
            }
        }
        let mut found = Vec::new();
        walk(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
            "",
            &mut found,
        );
        Self::of(found.iter().map(|(path, text)| (&**path, &**text)))
    }

    /// These files: each one's path under `src`, and its text.
    pub(crate) fn of<'f>(files: impl Iterator<Item = (&'f str, &'f str)>) -> Self {
        let mut tests = BTreeSet::new();
        let mut read = BTreeMap::new();
        for (path, text) in files {
            let module = path.strip_suffix(".rs").unwrap();
            let module = module
                .strip_suffix("/mod")
                .unwrap_or(module)
                .replace('/', "::");
            let file = File::read(path, text, &module, &mut tests);
            read.insert(module, file);
        }
        let is_test = |module: &str| {
            let mut outer = Some(module);
            while let Some(module) = outer {
                if tests.contains(module) {
                    return true;
                }
                outer = module.rsplit_once("::").map(|(outer, _)| outer);
            }
            false
        };
        read.retain(|module, _| !is_test(module));
        let mut house = Self {
            files: read,
            arrows: Vec::new(),
        };
        house.draw();
        house
    }

    pub(crate) fn modules(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The texts of a module and of all within it.
    pub(crate) fn texts_of(&self, module: &str) -> impl Iterator<Item = &str> {
        let within = format!("{module}::");
        let files = self.files.iter();
        let files = files.filter(move |(name, _)| *name == module || name.starts_with(&within));
        files.map(|(_, file)| &*file.text)
    }

    fn draw(&mut self) {
        for (module, file) in &self.files {
            let mut drawn = BTreeSet::new();
            for named in &file.named {
                let Some(to) = self
                    .absolute(module, named)
                    .and_then(|path| self.definer(&path, 0))
                else {
                    continue;
                };
                let names = named.path.join("::");
                if to != *module && drawn.insert((to.clone(), names.clone())) {
                    self.arrows.push(Arrow {
                        from: module.clone(),
                        from_path: file.path.clone(),
                        to_path: self.files[&to].path.clone(),
                        to,
                        line: named.line,
                        names,
                    });
                }
            }
        }
    }

    /// A path from the crate's root; `None`: it leads to another crate.
    fn absolute(&self, module: &str, named: &Named) -> Option<Vec<String>> {
        let mut at: Vec<String> = match module {
            "lib" | "main" => Vec::new(),
            module => module.split("::").map(ToOwned::to_owned).collect(),
        };
        let mut within = named.within;
        let mut rest = named.path.as_slice();
        match rest[0].as_str() {
            "crate" => return Some(rest[1..].to_vec()),
            "self" => rest = &rest[1..],
            "super" => {
                while let Some(("super", behind)) = rest.split_first().map(|(a, b)| (&**a, b)) {
                    rest = behind;
                    // A module within the file: `super` leads to the file itself.
                    if within > 0 {
                        within -= 1;
                    } else {
                        at.pop();
                    }
                }
            }
            child if self.files.contains_key(&format!("{module}::{child}")) => {}
            _ => return None,
        }
        at.extend_from_slice(rest);
        Some(at)
    }

    /// The module whose file defines what a path names.
    fn definer(&self, path: &[String], handed: usize) -> Option<String> {
        let length = (1..=path.len())
            .rev()
            .find(|length| self.files.contains_key(&path[..*length].join("::")))?;
        let module = path[..length].join("::");
        let through = path.get(length).and_then(|name| {
            let stands_for = self.files[&module].handed_on.get(name)?;
            let named = Named {
                line: 0,
                path: stands_for.clone(),
                within: 0,
            };
            let mut path_on = self.absolute(&module, &named)?;
            path_on.extend_from_slice(&path[length + 1..]);
            (handed < 8)
                .then(|| self.definer(&path_on, handed + 1))
                .flatten()
        });
        Some(through.unwrap_or(module))
    }
}

impl File {
    /// Reads a file but for its tests; adds to `tests` the modules that it declares as tests.
    fn read(path: &str, text: &str, module: &str, tests: &mut BTreeSet<String>) -> Self {
        let tokens = tokens(text);
        let word = |at: usize| tokens.get(at).map_or("", |(_, token)| &**token);
        let mut file = Self {
            path: path.to_owned(),
            text: text.to_owned(),
            ..Self::default()
        };
        let mut declared = BTreeSet::from(["crate", "super", "self"]);
        let mut handed_on = Vec::new();
        let mut used = BTreeSet::new();
        // Modules within the file that are open, by the number of braces around them.
        let mut within = Vec::new();
        let mut braces = 0_usize;
        let mut at = 0;
        while at < tokens.len() {
            let line = tokens[at].0;
            match word(at) {
                "#" if (at..at + 7)
                    .map(word)
                    .eq(["#", "[", "cfg", "(", "test", ")", "]"]) =>
                {
                    at += 7;
                    let declares = (at..at + 6).find(|at| word(*at) == "mod");
                    let Some(name) = declares.map(|at| at + 1) else {
                        continue;
                    };
                    if word(name + 1) == "{" {
                        // Behind the brace that closes it goes the file on.
                        let mut open = 1;
                        at = name + 2;
                        while open > 0 && at < tokens.len() {
                            match word(at) {
                                "{" => open += 1,
                                "}" => open -= 1,
                                _ => {}
                            }
                            at += 1;
                        }
                        continue;
                    }
                    tests.insert(match module {
                        "lib" => word(name).to_owned(),
                        _ => format!("{module}::{}", word(name)),
                    });
                    at = name + 1;
                }
                "mod" if word(at + 2) == ";" => {
                    declared.insert(word(at + 1));
                    at += 2;
                }
                "mod" if word(at + 2) == "{" => {
                    within.push(braces);
                    braces += 1;
                    at += 2;
                }
                "{" => braces += 1,
                "}" => {
                    braces = braces.saturating_sub(1);
                    if within.last() == Some(&braces) {
                        within.pop();
                    }
                }
                "use" => {
                    let is_pub = at > 0 && (word(at - 1) == "pub" || word(at - 1) == ")");
                    let mut paths = Vec::new();
                    at = read_use(&tokens, at + 1, &[], &mut paths);
                    for (alias, path) in paths {
                        let within = within.len();
                        if is_pub {
                            file.handed_on.insert(alias.clone(), path.clone());
                            handed_on.push((alias, Named { line, path, within }));
                        } else {
                            file.named.push(Named { line, path, within });
                        }
                    }
                }
                first if is_word(first) => {
                    let mut path = vec![first.to_owned()];
                    let begins = at == 0 || !matches!(word(at - 1), "::" | ".");
                    while word(at + 1) == "::" && is_word(word(at + 2)) {
                        path.push(word(at + 2).to_owned());
                        at += 2;
                    }
                    if begins && path.len() > 1 && declared.contains(&*path[0]) {
                        let within = within.len();
                        file.named.push(Named { line, path, within });
                    } else if begins {
                        used.insert(path.swap_remove(0));
                    }
                }
                _ => {}
            }
            at += 1;
        }
        let uses_itself = handed_on
            .into_iter()
            .filter(|(alias, _)| used.contains(alias));
        file.named.extend(uses_itself.map(|(_, named)| named));
        file
    }
}

/// Reads the tree of a `use` from `at` on; adds each name with its path. Answers where it ends.
fn read_use(
    tokens: &[(usize, String)],
    mut at: usize,
    before: &[String],
    paths: &mut Vec<(String, Vec<String>)>,
) -> usize {
    let mut path = before.to_vec();
    let mut alias: Option<String> = None;
    let mut whole = false;
    let mut finish = |path: &[String], alias: Option<String>, whole: bool| {
        if !whole && path.len() > before.len() {
            let mut path = path.to_vec();
            if path.last().is_some_and(|last| last == "self") {
                path.pop();
            }
            let last = path.last().cloned().unwrap_or_default();
            paths.push((alias.unwrap_or(last), path));
        }
    };
    let mut inner = Vec::new();
    while let Some((_, token)) = tokens.get(at) {
        match &**token {
            ";" | "}" => break,
            "," => {
                finish(&path, alias.take(), whole);
                path.truncate(before.len());
                whole = false;
            }
            "{" => {
                at = read_use(tokens, at + 1, &path, &mut inner);
                whole = true;
            }
            "as" => {
                at += 1;
                alias = tokens.get(at).map(|(_, name)| name.clone());
            }
            "::" => {}
            name => path.push(name.to_owned()),
        }
        at += 1;
    }
    finish(&path, alias, whole);
    paths.append(&mut inner);
    at
}

fn is_word(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// The words and signs of a text with their lines, without comments, strings and characters.
fn tokens(text: &str) -> Vec<(usize, String)> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    let mut line = 1;
    while at < bytes.len() {
        let rest = &text[at..];
        let first = rest.chars().next().unwrap_or_default();
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = string(rest) {
            length
        } else if is_word(rest) {
            let is_part = |c: char| c.is_alphanumeric() || c == '_';
            let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            tokens.push((line, rest[..length].to_owned()));
            length
        } else if rest.starts_with("::") {
            tokens.push((line, "::".to_owned()));
            2
        } else {
            if !first.is_whitespace() {
                tokens.push((line, first.to_string()));
            }
            first.len_utf8()
        };
        line += rest[..length].matches('\n').count();
        at += length;
    }
    tokens
}

/// The length of the string or character that a text begins with.
fn string(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('b').unwrap_or(rest);
    let prefix = rest.len() - body.len();
    if let Some(raw) = body.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let inner = raw[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = inner.find(&end).map_or(inner.len(), |at| at + end.len());
        return Some(prefix + 1 + hashes + 1 + length);
    }
    let quote = body
        .chars()
        .next()
        .filter(|first| matches!(first, '"' | '\''))?;
    let mut escaped = false;
    for (at, character) in body.char_indices().skip(1) {
        // A lifetime is a quote that no other one closes behind one character.
        if quote == '\'' && at > 1 && character != '\'' && !body[1..].starts_with('\\') {
            return None;
        }
        if character == quote && !escaped && !(quote == '\'' && at == 1) {
            return Some(prefix + at + 1);
        }
        escaped = character == '\\' && !escaped;
    }
    None
}
