//! Access to the streams.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use face_core::file::read_text_at_most;
use gst_rtsp_server::prelude::*;
use rand::distr::{Alphanumeric, SampleString};

use crate::config::Config;
use crate::outputs::dated::{private_folder, replace_private};
use face_parts::secret::{LONGEST, Secret};

/// The length of a generated password.
const LENGTH: usize = 24;

/// The role of viewers who know the password.
pub const ROLE: &str = "viewer";

/// Asks for user and password with Digest, which does not send the password.
pub fn required(config: &Config) -> Result<gst_rtsp_server::RTSPAuth> {
    let password = match &config.restream.password {
        Some(password) => password.clone(),
        None => made_up(&made_up_path(config)?)?,
    };
    let token = gst_rtsp_server::RTSPToken::builder()
        .field(
            gst_rtsp_server::RTSP_TOKEN_MEDIA_FACTORY_ROLE.as_str(),
            ROLE,
        )
        .build();
    let auth = gst_rtsp_server::RTSPAuth::new();
    auth.set_supported_methods(gst_rtsp::RTSPAuthMethod::Digest);
    auth.set_realm(Some("facepipe"));
    auth.add_digest(&config.restream.username, password.reveal(), &token);
    Ok(auth)
}

/// Fails if a generated password exists but cannot be used.
pub fn check_password(config: &Config) -> Result<()> {
    let path = made_up_path(config)?;
    if config.restream.password.is_none() && !config.restream.anonymous && path.exists() {
        parse(&path, &read_text_at_most(&path, LONGEST)?)?;
    }
    Ok(())
}

fn made_up_path(config: &Config) -> Result<PathBuf> {
    Ok(config.state_folder()?.join("restream-password"))
}

/// Reads the password from the file at `path`, or generates it if there is no file.
fn made_up(path: &Path) -> Result<Secret> {
    let read = || match read_text_at_most(path, LONGEST) {
        Err(face_core::Error::NotFound(_)) => Ok(write(path)?),
        read => anyhow::Ok(read?),
    };
    let text = read().with_context(|| format!("the password in {}", path.display()))?;
    let password = parse(path, &text)?;
    tracing::info!(
        "the password of the annotated streams is in {}",
        path.display()
    );
    Ok(password)
}

fn parse(path: &Path, text: &str) -> Result<Secret> {
    let password = text.trim_end();
    ensure!(
        !password.is_empty(),
        "{} is empty; remove it to get a new password",
        path.display()
    );
    Ok(Secret::new(password))
}

/// Writes a new password, whole or not at all.
fn write(path: &Path) -> io::Result<String> {
    if let Some(folder) = path.parent() {
        private_folder(folder)?;
    }
    let password = Alphanumeric.sample_string(&mut rand::rng(), LENGTH);
    replace_private(path, format!("{password}\n").as_bytes())?;
    Ok(password)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_password_is_made_up_once_and_for_the_owner_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("state/restream-password");
        let first = made_up(&path).expect("made");
        assert_eq!(first.reveal().len(), LENGTH);
        assert_eq!(made_up(&path).expect("read").reveal(), first.reveal());
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&path, "\n").expect("writable");
        let error = format!("{:#}", made_up(&path).map(drop).expect_err("empty"));
        assert!(error.contains("is empty"), "{error}");
    }
}
