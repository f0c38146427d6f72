//! Passwords: where they come from, and that they go nowhere.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use face_core::file::read_text_at_most;
use serde::Deserialize;

/// All secrets read so far, for [`redact`].
static KNOWN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Shorter ones would be found everywhere in a log.
const LEAST_REDACTED: usize = 4;

/// A password. It prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if text.len() >= LEAST_REDACTED && !known.contains(&text) {
            known.push(text.clone());
        }
        Self(text)
    }

    /// Hides also what goes over the wire with `username`: base64 of `username:password`.
    pub fn hide_with(&self, username: &str) {
        let credentials = format!("{username}:{}", self.0);
        Self::new(glib::base64_encode(credentials.as_bytes()));
    }

    /// What must not be printed.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("***")
    }
}

/// `text` with `***` in place of all secrets known to the program, and of those in addresses.
pub fn redact(text: &str) -> String {
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.iter().filter(|secret| text.contains(secret.as_str()));
    // One may be a part of another.
    let mut known: Vec<&String> = known.collect();
    known.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    // Before addresses are looked for: a secret may hold what ends one.
    let text = known
        .into_iter()
        .fold(text.to_owned(), |text, secret| text.replace(secret, "***"));
    crate::address::masked(&text).into_owned()
}

/// A longer file holds no password, in bytes.
pub const LONGEST: u64 = 64 << 10;

/// Reads a regular file: a pipe or a device might never end.
fn read_short(path: &Path) -> Result<String> {
    ensure!(
        std::fs::metadata(path)?.is_file(),
        "it is not a regular file"
    );
    Ok(read_text_at_most(path, LONGEST)?)
}

/// Where a password stands: in an environment variable or in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Place {
    pub password_env: Option<String>,
    pub password_file: Option<PathBuf>,
}

impl Place {
    /// Reads the password; `None` if no place is named. Files are relative to `folder`; a line break at
    /// their end does not count.
    pub fn read(&self, folder: &Path) -> Result<Option<Secret>> {
        Ok(match (&self.password_env, &self.password_file) {
            (None, None) => None,
            (Some(_), Some(_)) => bail!("both password-env and password-file; name one"),
            (Some(name), None) => {
                let value = std::env::var(name)
                    .with_context(|| format!("password-env: the variable {name}"))?;
                Some(Secret::new(value))
            }
            (None, Some(file)) => {
                let path = folder.join(file);
                let text = read_short(&path)
                    .with_context(|| format!("password-file {}", path.display()))?;
                Some(Secret::new(text.trim_end_matches(['\r', '\n'])))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_print() {
        let secret = Secret::new("hunter2-of-the-door");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(
            redact("rtsp://admin:hunter2-of-the-door@cam/"),
            "rtsp://admin:***@cam/"
        );
        assert_eq!(redact("nothing here"), "nothing here");
        secret.hide_with("admin");
        let header = "Authorization: Basic YWRtaW46aHVudGVyMi1vZi10aGUtZG9vcg==";
        assert_eq!(redact(header), "Authorization: Basic ***");
    }

    #[test]
    fn a_password_comes_from_a_file_or_the_environment() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("pw"), "from the file\n").expect("writable");
        let file = Place {
            password_file: Some("pw".into()),
            ..Place::default()
        };
        let read = |place: &Place| place.read(folder.path());
        let secret = read(&file).expect("readable").expect("a secret");
        assert_eq!(secret.reveal(), "from the file");
        assert!(read(&Place::default()).expect("nothing to read").is_none());
        std::fs::write(folder.path().join("long"), "x".repeat(70_000)).expect("writable");
        for (file, part) in [("long", "longer than 65536"), ("/dev/zero", "regular file")] {
            let place = Place {
                password_file: Some(file.into()),
                ..Place::default()
            };
            let error = format!("{:#}", read(&place).expect_err(file));
            assert!(error.contains(part), "{error}");
        }
        let unset = Place {
            password_env: Some("NO_SUCH_VARIABLE_HERE".into()),
            ..Place::default()
        };
        let error = format!("{:#}", read(&unset).expect_err("not set"));
        assert!(error.contains("NO_SUCH_VARIABLE_HERE"), "{error}");
    }
}
