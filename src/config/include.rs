//! Which files the main file includes.

use std::io;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::source::INCLUDE;
use crate::glob::Glob;

/// A pattern of the main file, by the offset of where it stands.
pub(super) struct Included {
    pub(super) offset: usize,
    pub(super) files: io::Result<Vec<PathBuf>>,
    /// With its directory.
    pub(super) path: PathBuf,
    /// As it is written.
    pub(super) pattern: String,
}

/// What the main file includes, in its order; what is wrong with the form of it, whoever reads the
/// settings says. `directory` is that of the file.
pub(super) fn included(text: &str, directory: &Path) -> Vec<Included> {
    let (root, _) = DeTable::parse_recoverable(text);
    let found = root.get_ref().get(INCLUDE);
    let items = found.and_then(|value| value.get_ref().as_array());
    let items = items.into_iter().flatten();
    let included = items.filter_map(|item| {
        let pattern = item.get_ref().as_str()?;
        let path = directory.join(pattern);
        Some(Included {
            offset: item.span().start,
            files: matching(&path),
            path,
            pattern: pattern.to_owned(),
        })
    });
    included.collect()
}

/// The files that a pattern stands for, in the order of their names. * and ? stand for characters of
/// the last part only; hidden files are left out, as a shell does. A name without them stands for
/// itself, whether or not there is such a file.
pub(super) fn matching(pattern: &Path) -> io::Result<Vec<PathBuf>> {
    let name = pattern.file_name().and_then(|name| name.to_str());
    let Some(name) = name.filter(|name| name.contains(['*', '?'])) else {
        return Ok(vec![pattern.to_owned()]);
    };
    let directory = match pattern.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let glob = Glob::exact(name);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let bytes = name.as_encoded_bytes();
        if !bytes.starts_with(b".") && glob.matches(bytes) {
            files.push(pattern.with_file_name(&name));
        }
    }
    files.sort_unstable();
    Ok(files)
}
