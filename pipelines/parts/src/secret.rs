//! Reads passwords and keeps them out of everything that is printed.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use face_core::file::read_text_at_most;
use parking_lot::Mutex;
use serde::Deserialize;

/// All secrets read so far, for [`masked`].
static KNOWN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Shorter secrets would match all over a log.
const LEAST_REDACTED: usize = 4;

/// A password. It prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        let mut known = KNOWN.lock();
        if text.len() >= LEAST_REDACTED && !known.contains(&text) {
            known.push(text.clone());
        }
        Self(text)
    }

    /// Also hides what is sent with `username`: the base64 of `username:password`.
    pub fn hide_with(&self, username: &str) {
        let credentials = format!("{username}:{}", self.0);
        Self::new(glib::base64_encode(credentials.as_bytes()));
    }

    /// The password itself. It must not be printed.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("***")
    }
}

/// Replaces all secrets known to the program with `***`.
pub fn masked(text: &str) -> String {
    let known = KNOWN.lock();
    let known = known.iter().filter(|secret| text.contains(secret.as_str()));
    // Longest first, as one may be part of another.
    let mut known: Vec<&String> = known.collect();
    known.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    known
        .into_iter()
        .fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
}

/// The size limit of a password file, in bytes.
pub const LONGEST: u64 = 64 << 10;

/// Reads a regular file. A pipe or a device might never end.
fn read_short(path: &Path) -> Result<String> {
    ensure!(
        std::fs::metadata(path)?.is_file(),
        "it is not a regular file"
    );
    Ok(read_text_at_most(path, LONGEST)?)
}

/// Where a password is stored: in an environment variable or in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Place {
    pub password_env: Option<String>,
    pub password_file: Option<PathBuf>,
}

impl Place {
    /// Reads the password. `None` if no place is named. Files are relative to `folder`; a line
    /// break at their end is ignored.
    pub fn read(&self, folder: &Path) -> Result<Option<Secret>> {
        Ok(match (&self.password_env, &self.password_file) {
            (None, None) => None,
            (Some(_), Some(_)) => {
                bail!("both password-env and password-file are set; use only one")
            }
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
            masked("rtsp://admin:hunter2-of-the-door@cam/"),
            "rtsp://admin:***@cam/"
        );
        assert_eq!(masked("nothing here"), "nothing here");
        secret.hide_with("admin");
        let header = "Authorization: Basic YWRtaW46aHVudGVyMi1vZi10aGUtZG9vcg==";
        assert_eq!(masked(header), "Authorization: Basic ***");
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
