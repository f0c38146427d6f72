//! Keeps events on disk until a webhook has accepted them, so that no restart loses any.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use face_core::Error;
use face_core::file::{hex, read_at_most};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::dated::replace_private;

/// The file is rewritten when this many of its lines are obsolete.
const USELESS: usize = 1000;

/// Our files are smaller, in bytes.
const LARGEST: u64 = 256 << 20;

/// A line of the file: a new event, or one that is done. A torn line, the last one after a crash,
/// is skipped.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Entry {
    Add { id: String, body: Box<RawValue> },
    Done { id: String },
}

/// Also keeps the events in memory, to be able to rewrite the file.
pub struct Spool {
    path: PathBuf,
    file: Option<File>,
    /// By number, which is the order of arrival.
    waiting: BTreeMap<u64, (String, String)>,
    numbers: BTreeMap<String, u64>,
    next: u64,
    useless: usize,
    /// Whether the last write failed.
    failing: bool,
}

impl Spool {
    /// Opens the spool of an address in `folder`. Also returns its content, ids and bodies. If it
    /// cannot be read or written, this is logged and nothing is kept.
    pub fn open(folder: &Path, url: &str) -> (Self, Vec<(String, String)>) {
        let name = hex(&Sha256::digest(url.as_bytes())[..8]);
        Self::at(folder.join(format!("{name}.jsonl")))
    }

    /// The same for a file.
    pub fn at(path: PathBuf) -> (Self, Vec<(String, String)>) {
        let mut spool = Self {
            path,
            file: None,
            waiting: BTreeMap::new(),
            numbers: BTreeMap::new(),
            next: 0,
            useless: 0,
            failing: false,
        };
        match read_at_most(&spool.path, LARGEST) {
            Ok(bytes) => spool.replay(&bytes),
            Err(Error::NotFound(_)) => {}
            Err(error) => spool.put_aside(&error),
        }
        let left = spool.waiting.values().cloned().collect();
        let written = spool.rewrite();
        spool.note(written);
        (spool, left)
    }

    /// Renames a file that cannot be read, so that it is not overwritten: somebody may still need
    /// its content.
    fn put_aside(&self, error: &Error) {
        let aside = self.path.with_extension("unreadable");
        match fs::rename(&self.path, &aside) {
            Ok(()) => tracing::error!("{error}; it is now {}", aside.display()),
            Err(renaming) => tracing::error!("{error}, and cannot be renamed: {renaming}"),
        }
    }

    /// Restores what an earlier run left.
    fn replay(&mut self, bytes: &[u8]) {
        for line in bytes.split(|&byte| byte == b'\n') {
            match serde_json::from_slice(line) {
                Ok(Entry::Add { id, body }) => self.insert(&id, body.get()),
                Ok(Entry::Done { id }) => self.remove(&id),
                Err(_) if line.is_empty() => {}
                Err(error) => tracing::warn!("{}: {error}", self.path.display()),
            }
        }
    }

    pub fn add(&mut self, id: &str, body: &str) {
        self.insert(id, body);
        let entry = RawValue::from_string(body.to_owned()).map(|body| Entry::Add {
            id: id.to_owned(),
            body,
        });
        let written = entry.map_err(io::Error::from).and_then(|e| self.append(&e));
        self.note(written);
    }

    pub fn done(&mut self, id: &str) {
        self.remove(id);
        self.useless += 2;
        let written = if self.useless >= USELESS || self.waiting.is_empty() {
            self.rewrite()
        } else {
            self.append(&Entry::Done { id: id.to_owned() })
        };
        self.note(written);
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Drops events, and every trace of those that are done. Returns whether the file is now
    /// without them.
    pub fn purge<'a>(&mut self, ids: impl IntoIterator<Item = &'a str>) -> bool {
        for id in ids {
            self.remove(id);
        }
        let written = self.rewrite();
        self.note(written);
        !self.failing
    }

    fn insert(&mut self, id: &str, body: &str) {
        self.waiting
            .insert(self.next, (id.to_owned(), body.to_owned()));
        self.numbers.insert(id.to_owned(), self.next);
        self.next += 1;
    }

    fn remove(&mut self, id: &str) {
        if let Some(number) = self.numbers.remove(id) {
            self.waiting.remove(&number);
        }
    }

    fn append(&mut self, entry: &Entry) -> io::Result<()> {
        // After a failure, lines are missing in the file, and it may end in half a line.
        let Some(file) = self.file.as_mut().filter(|_| !self.failing) else {
            return self.rewrite();
        };
        file.write_all(&line(entry)?)
    }

    /// Rewrites the file, then renames it into place.
    fn rewrite(&mut self) -> io::Result<()> {
        let waiting = self.waiting.values();
        let entries = waiting.filter_map(|(id, body)| {
            let (id, body) = (id.clone(), RawValue::from_string(body.clone()).ok()?);
            Some(Entry::Add { id, body })
        });
        let mut bytes = Vec::new();
        for entry in entries {
            bytes.extend(line(&entry)?);
        }
        self.useless = 0;
        self.file = None;
        if bytes.is_empty() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        if let Some(folder) = self.path.parent() {
            super::dated::private_folder(folder)?;
        }
        self.file = Some(replace_private(&self.path, &bytes)?);
        Ok(())
    }

    /// Logs when writing starts to fail, and when it works again.
    fn note(&mut self, written: io::Result<()>) {
        let path = self.path.display();
        match &written {
            Err(error) if !self.failing => {
                tracing::error!("{path}: {error}; a restart would lose waiting events");
            }
            Ok(()) if self.failing => tracing::info!("{path}: can be written again"),
            _ => {}
        }
        self.failing = written.is_err();
    }
}

/// `entry` as a line.
fn line(entry: &Entry) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(entry)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn ids(left: &[(String, String)]) -> Vec<&str> {
        left.iter().map(|(id, _)| id.as_str()).collect()
    }

    #[test]
    fn what_is_not_done_is_there_again_in_order() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state = folder.path().join("state");
        let open = || Spool::open(&state, "http://host/hook");
        let (mut spool, left) = open();
        assert!(left.is_empty());
        for i in 0..12 {
            spool.add(&format!("event-{i}"), &format!(r#"{{"n":{i}}}"#));
        }
        for i in 0..10 {
            spool.done(&format!("event-{i}"));
        }
        // As after a kill: no proper end.
        std::mem::forget(spool);
        let (mut spool, left) = open();
        assert_eq!(ids(&left), ["event-10", "event-11"]);
        assert_eq!(left[1].1, r#"{"n":11}"#);
        let mode = fs::metadata(&spool.path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        spool.done("event-11");
        spool.done("event-10");
        assert!(!spool.path.exists(), "nothing waits");
        spool.add("event-12", "{}");
        assert_eq!(ids(&open().1), ["event-12"]);
        spool.add("event-13", "{}");
        spool.done("event-12");
        spool.add("event-14", "{}");
        // Events that were already done are removed from the file, too.
        assert!(spool.purge(["event-13"]));
        let text = fs::read_to_string(&spool.path).expect("readable");
        assert!(
            text.contains("event-14") && text.lines().count() == 1,
            "{text}"
        );
        assert_eq!(ids(&open().1), ["event-14"]);
        assert_eq!(Spool::open(&state, "http://other/").1, []);
    }

    #[test]
    fn a_torn_line_costs_only_itself() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let open = || Spool::open(folder.path(), "http://host/hook");
        let (mut spool, _) = open();
        spool.add("a", "{}");
        spool.add("b", r#"{"long":"text"}"#);
        let bytes = fs::read(&spool.path).expect("readable");
        for length in 0..bytes.len() {
            fs::write(&spool.path, &bytes[..length]).expect("writable");
            let found = open().1.len();
            let whole = bytes[..length].iter().filter(|&&b| b == b'\n').count();
            // A line that lacks only its line break is complete, too.
            assert!(found == whole || found == whole + 1, "{length}");
        }
        fs::write(&spool.path, [0, 159, 10, b'{', 10]).expect("writable");
        assert!(open().1.is_empty());
    }
}
