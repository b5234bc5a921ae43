//! Which files a configuration consists of and names, and whether they still are as they were when it
//! was read.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::include::matching;

/// Files up to this size are compared by what is in them, and larger ones by what the file system says
/// of them. No certificate and no configuration is as large.
const COMPARED_BYTES: u64 = 1 << 20;

/// The files of a configuration, each as it was before it was read: what is written while it is being
/// read counts as a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<Watched, Stamp>);

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Watched {
    /// A file, which need not be there.
    File(PathBuf),
    /// A pattern for files: which there are.
    Pattern(PathBuf),
}

/// How it was.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stamp {
    /// A hash of what is in it. Links are followed, so that a link that now leads elsewhere is a
    /// change only if something else is found there.
    Content([u8; 32]),
    /// Of what is too large for that, or no plain file, which could keep its reader waiting.
    Described {
        device: u64,
        inode: u64,
        size: u64,
        modified: (i64, i64),
    },
    /// Of a pattern.
    Names(Vec<OsString>),
    /// It is not there, or cannot be read.
    Unreadable(io::ErrorKind),
}

impl Files {
    /// Remembers how a file is that is about to be read.
    pub(super) fn note(&mut self, path: &Path) {
        self.insert(Watched::File(path.to_owned()));
    }

    /// Remembers which files there are for a pattern.
    pub(super) fn note_pattern(&mut self, pattern: &Path) {
        self.insert(Watched::Pattern(pattern.to_owned()));
    }

    fn insert(&mut self, watched: Watched) {
        self.0.entry(watched).or_insert_with_key(Watched::stamp);
    }

    /// The same files as they are now. Takes as long as the file system likes.
    #[must_use]
    pub fn now(&self) -> Self {
        let watched = self.0.keys().cloned();
        let stamped = watched.map(|watched| {
            let stamp = watched.stamp();
            (watched, stamp)
        });
        Self(stamped.collect())
    }

    /// These, and those of `others` that are not among them.
    #[must_use]
    pub fn or(mut self, others: Self) -> Self {
        for (watched, stamp) in others.0 {
            self.0.entry(watched).or_insert(stamp);
        }
        self
    }

    /// What is different in `other`, by name.
    pub fn changed(&self, other: &Self) -> Vec<&Path> {
        let differs = |(watched, stamp): &(&Watched, &Stamp)| other.0.get(*watched) != Some(*stamp);
        let changed = self.0.iter().filter(differs);
        changed.map(|(watched, _)| watched.path()).collect()
    }
}

impl Watched {
    fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Pattern(path) => path,
        }
    }

    fn stamp(&self) -> Stamp {
        let stamp = match self {
            Self::File(path) => of_file(path),
            Self::Pattern(pattern) => matching(pattern).map(|files| {
                let names = files.iter().filter_map(|file| file.file_name());
                Stamp::Names(names.map(OsString::from).collect())
            }),
        };
        stamp.unwrap_or_else(|error| Stamp::Unreadable(error.kind()))
    }
}

fn of_file(path: &Path) -> io::Result<Stamp> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > COMPARED_BYTES {
        return Ok(described(&metadata));
    }
    let mut content = Vec::new();
    let mut file = File::open(path)?.take(COMPARED_BYTES + 1);
    file.read_to_end(&mut content)?;
    if content.len() as u64 > COMPARED_BYTES {
        return Ok(described(&metadata));
    }
    Ok(Stamp::Content(Sha256::digest(&content).into()))
}

fn described(metadata: &Metadata) -> Stamp {
    Stamp::Described {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn noted(path: &Path) -> Files {
        let mut files = Files::default();
        files.note(path);
        files
    }

    #[test]
    fn a_file_has_changed_if_something_else_is_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        let missing = noted(&path);
        fs::write(&path, "one").unwrap();
        assert_eq!(missing.changed(&missing.now()), [&path]);
        let one = noted(&path);
        fs::write(&path, "one").unwrap();
        assert_eq!(one.now(), one);
        // Of the same size, and within the granularity of times.
        fs::write(&path, "two").unwrap();
        assert_eq!(one.changed(&one.now()), [&path]);
        fs::remove_file(&path).unwrap();
        assert_eq!(one.now(), missing);
    }

    #[test]
    fn a_file_that_another_one_is_renamed_to_has_changed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("osprey.toml");
        fs::write(&path, "one").unwrap();
        let before = noted(&path);
        let new = directory.path().join(".osprey.toml.new");
        fs::write(&new, "two").unwrap();
        fs::rename(&new, &path).unwrap();
        assert_eq!(before.changed(&before.now()), [&path]);
    }

    #[test]
    fn what_kubernetes_swaps_has_changed() {
        let directory = tempfile::tempdir().unwrap();
        for (version, text) in [("..1", "one"), ("..2", "two"), ("..3", "two")] {
            let version = directory.path().join(version);
            fs::create_dir(&version).unwrap();
            fs::write(version.join("tls.crt"), text).unwrap();
        }
        let data = directory.path().join("..data");
        let swap = |version: &str| {
            let new = directory.path().join("..data_tmp");
            symlink(version, &new).unwrap();
            fs::rename(&new, &data).unwrap();
        };
        swap("..1");
        let path = directory.path().join("tls.crt");
        symlink("..data/tls.crt", &path).unwrap();
        let one = noted(&path);
        swap("..2");
        assert_eq!(one.changed(&one.now()), [&path]);
        let two = noted(&path);
        swap("..3");
        assert_eq!(two.now(), two);
    }

    #[test]
    fn a_pattern_has_changed_if_a_file_comes_or_goes() {
        let directory = tempfile::tempdir().unwrap();
        let pattern = directory.path().join("*.toml");
        let mut files = Files::default();
        files.note_pattern(&pattern);
        fs::write(directory.path().join("notes"), "").unwrap();
        assert_eq!(files.now(), files);
        fs::write(directory.path().join("a.toml"), "").unwrap();
        let with = files.now();
        assert_eq!(files.changed(&with), [&pattern]);
        fs::remove_file(directory.path().join("a.toml")).unwrap();
        assert_eq!(with.now(), files);
    }

    #[test]
    fn what_is_no_plain_file_or_large_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large");
        fs::write(&path, vec![0; COMPARED_BYTES as usize + 1]).unwrap();
        for path in [&path, directory.path(), Path::new("/dev/zero")] {
            let files = noted(path);
            assert!(
                matches!(files.0.values().next(), Some(Stamp::Described { .. })),
                "{path:?}"
            );
            assert_eq!(files.now(), files);
        }
    }

    #[test]
    fn what_was_not_read_this_time_is_looked_at_all_the_same() {
        let (one, two) = (
            noted(Path::new("/nowhere/1")),
            noted(Path::new("/nowhere/2")),
        );
        let both = one.clone().or(two);
        assert_eq!(both.0.len(), 2);
        assert_eq!(both.clone().or(one), both);
    }
}
