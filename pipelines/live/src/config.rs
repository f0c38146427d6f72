//! The configuration of `facepipe live`, in TOML. Only this module reads and checks it.
//!
//! ```toml
//! [server]                          # metrics, health
//! listen = "127.0.0.1:9402"
//!
//! [restream]                        # annotated video at rtsp://…/NAME
//! listen = "127.0.0.1:8554"
//! username = "viewer"
//! password-file = "restream.password"
//!
//! [strangers]                       # who is seen again
//! forget-after = "7d"
//!
//! [defaults]                        # for all cameras; a camera's own keys take precedence
//! gallery = "friends.safetensors"
//!
//! [[camera]]
//! name = "door"
//! uri = "rtsp://192.0.2.7/stream1"
//! username = "admin"
//! password-env = "DOOR_PASSWORD"
//! jsonl = { path = "out/{camera}.jsonl", max-size = "100 MB", max-age = "24h", keep = 14 }
//! restream = true
//! segments = { folder = "out/{camera}", format = "hls", length = "6s", keep = 100 }
//! events = { path = "out/events.jsonl", webhooks = [{ url = "https://example.org/hook" }] }
//! ```

mod amount;
mod file;
pub mod place;
mod schema;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use face_core::file::read_text_at_most;
use face_parts::stages::Options;
use serde::Deserialize;

use self::place::Places;
use face_parts::output::Target;
use face_parts::secret::Secret;

/// Nobody writes a larger file by hand.
const MOST_BYTES: u64 = 4 << 20;

#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The folder of the configuration, to which its paths are relative.
    pub folder: PathBuf,
    /// The folder for generated passwords and the control socket; see [`Config::state_folder`].
    pub state: Option<PathBuf>,
    pub server: Server,
    pub restream: RestreamServer,
    pub strangers: Strangers,
    pub cameras: Vec<Camera>,
}

/// Whether strangers are told apart, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Strangers {
    pub enabled: bool,
    /// The most strangers to remember; those not seen for longest are forgotten first.
    pub most: usize,
    /// A stranger not seen for this long is forgotten.
    pub forget_after: Duration,
    /// A stranger not seen for this long has left.
    pub visit_gap: Duration,
    /// The file that keeps them over restarts. `None`: nothing is written.
    pub remember: Option<PathBuf>,
}

impl Strangers {
    /// The folder of the file that keeps them, canonical.
    pub fn folder(&self) -> Option<PathBuf> {
        let file = self.remember.as_deref().filter(|_| self.enabled)?;
        file.parent().map(canonical)
    }
}

/// The port for metrics and health.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Server {
    pub listen: SocketAddr,
    /// Open no port.
    pub disabled: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9402)),
            disabled: false,
        }
    }
}

/// The RTSP server of the annotated streams.
#[derive(Debug, Clone, PartialEq)]
pub struct RestreamServer {
    pub listen: SocketAddr,
    pub username: String,
    /// Generated if there is none.
    pub password: Option<Secret>,
    /// Admit everybody who reaches the port.
    pub anonymous: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP, and UDP if the camera refuses TCP.
    #[default]
    Auto,
    Tcp,
    Udp,
}

/// One camera with its options and outputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Camera {
    pub name: String,
    /// Without credentials, unless the whole address is secret.
    pub uri: String,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub transport: Transport,
    /// The latency of the jitter buffer.
    pub latency: Duration,
    /// A stream without a frame for this long has failed.
    pub stall_timeout: Duration,
    pub stages: Options,
    pub jsonl: Option<Jsonl>,
    pub restream: bool,
    pub segments: Option<Segments>,
    pub events: Option<Events>,
}

impl Camera {
    /// The files and folders that contain people's names: gallery and outputs.
    pub fn places(&self) -> Vec<PathBuf> {
        let events = self.events.as_ref().and_then(|events| events.path.clone());
        let jsonl = self.jsonl.as_ref().map(|jsonl| jsonl.path.clone());
        let segments = self.segments.as_ref().map(|s| s.folder.clone());
        [self.stages.gallery.clone(), jsonl, events, segments]
            .into_iter()
            .flatten()
            .collect()
    }

    /// The folders that contain them, canonical and without duplicates. A link counts with its own
    /// folder and the file's.
    pub fn folders(&self) -> BTreeSet<PathBuf> {
        let segments = self.segments.as_ref().map(|s| s.folder.clone());
        let mut folders = BTreeSet::new();
        for place in self.places() {
            if segments.as_ref() == Some(&place) {
                folders.insert(canonical(&place));
                continue;
            }
            match Target::of(&place) {
                Ok(Target::File(file)) => folders.extend(file.parent().map(Path::to_owned)),
                // Nobody searches a pipe or a device for names.
                Ok(Target::Descriptor(_) | Target::Stream(_)) => continue,
                // Its folder may still be created.
                Err(_) => {}
            }
            folders.extend(place.parent().map(canonical));
        }
        folders
    }
}

/// Resolves the links in a path, as far as it exists.
fn canonical(path: &Path) -> PathBuf {
    let known = path.ancestors().find_map(|above| {
        let real = above.canonicalize().ok()?;
        Some(real.join(path.strip_prefix(above).ok()?))
    });
    known.unwrap_or_else(|| path.to_owned())
}

/// One line per frame and track.
#[derive(Debug, Clone, PartialEq)]
pub struct Jsonl {
    pub path: PathBuf,
    pub rotation: Rotation,
    /// Skip lines of frames without faces.
    pub only_faces: bool,
}

/// When to close a file and start a new one, and how many closed ones to keep (0: all).
#[derive(Debug, Clone, PartialEq)]
pub struct Rotation {
    pub max_size: u64,
    pub max_age: Duration,
    pub keep: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Fragmented MP4: a file cut off by a crash plays up to its last second.
    #[default]
    Mp4,
    /// MPEG-TS segments and a playlist.
    Hls,
}

/// Files of annotated video.
#[derive(Debug, Clone, PartialEq)]
pub struct Segments {
    pub folder: PathBuf,
    pub format: Format,
    pub length: Duration,
    /// How many of the newest to keep (0: all).
    pub keep: usize,
}

/// People who appear and leave, and strangers.
#[derive(Debug, Clone, PartialEq)]
pub struct Events {
    pub path: Option<PathBuf>,
    pub rotation: Rotation,
    pub webhooks: Vec<Webhook>,
    /// Somebody not seen for this long has left.
    pub left_after: Duration,
    /// A track that matches nobody for this long is reported as a stranger.
    pub stranger_after: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Webhook {
    pub url: String,
    /// Sent as `Authorization: Bearer …`.
    pub token: Option<Secret>,
    pub timeout: Duration,
}

impl Config {
    /// Reads and checks a file, including its passwords. The error has a line for each problem,
    /// with file, line and column.
    pub fn read(path: &Path) -> Result<Self> {
        Ok(Self::read_with_places(path)?.0)
    }

    /// Parses the text of a configuration file in `folder`.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, place::Problems> {
        Ok(file::parse(text, folder)?.0)
    }

    /// See [`read`](Self::read). Also returns the positions of all keys.
    pub fn read_with_places(path: &Path) -> Result<(Self, Places)> {
        let text = read_text(path)?;
        let absolute = std::path::absolute(path)?;
        let folder = absolute.parent().unwrap_or(Path::new("/"));
        file::parse(&text, folder).map_err(|problems| problems.of_file(path).into())
    }

    /// The folder for the program's state: `state`, or `facepipe` in the user's state folder.
    pub fn state_folder(&self) -> Result<PathBuf> {
        if let Some(state) = &self.state {
            return Ok(state.clone());
        }
        default_state_folder()
    }
}

/// Reads the text of a configuration.
pub fn read_text(path: &Path) -> Result<String> {
    read_text_at_most(path, MOST_BYTES).context("configuration")
}

/// `$XDG_STATE_HOME/facepipe`, or its default.
pub fn default_state_folder() -> Result<PathBuf> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|folder| folder.join("facepipe"))
        .context("neither HOME nor XDG_STATE_HOME is set; set `state` in the configuration")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config> {
        Ok(file::parse(text, Path::new("/etc/facepipe"))?.0)
    }

    fn refusal(text: &str) -> String {
        format!("{:#}", parse(text).expect_err("refused"))
    }

    #[test]
    fn defaults_are_overlaid_by_each_camera() {
        let config = parse(
            r#"
            [defaults]
            gallery = "friends.safetensors"
            jsonl = { path = "out/{camera}.jsonl", max-size = "2 MB", max-age = "90m" }
            [defaults.stages]
            interval = 2

            [[camera]]
            name = "door"
            uri = "rtsp://192.0.2.7/stream1"
            jsonl = { keep = 3 }

            [[camera]]
            name = "hall"
            uri = "rtsp://192.0.2.8/stream1"
            jsonl = false
            restream = true
            stages = { interval = 5, age-gender = false }
            "#,
        )
        .expect("valid");
        let [door, hall] = config.cameras.as_slice() else {
            panic!("two cameras");
        };
        let jsonl = door.jsonl.as_ref().expect("an output");
        assert_eq!(jsonl.path, Path::new("/etc/facepipe/out/door.jsonl"));
        assert_eq!(
            jsonl.rotation,
            Rotation {
                max_size: 2_000_000,
                max_age: Duration::from_secs(5400),
                keep: 3
            }
        );
        assert_eq!((door.stages.interval, hall.stages.interval), (2, 5));
        assert!(door.stages.age_gender && !hall.stages.age_gender);
        assert!(hall.jsonl.is_none() && hall.restream && !door.restream);
        for camera in [door, hall] {
            let gallery = camera.stages.gallery.as_deref();
            assert_eq!(
                gallery,
                Some(Path::new("/etc/facepipe/friends.safetensors"))
            );
        }
        assert!(config.server.listen.ip().is_loopback());
        assert!(config.restream.listen.ip().is_loopback() && !config.restream.anonymous);
    }

    #[test]
    fn notes_lie_beside_files_and_what_links_lead_to() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().canonicalize().expect("there");
        let at = |name: &str| root.join(name);
        for name in ["real", "links"] {
            std::fs::create_dir(at(name)).expect("writable");
        }
        std::os::unix::fs::symlink("../real/door.jsonl", at("links/door")).expect("writable");
        std::os::unix::fs::symlink("real", at("alias")).expect("writable");
        let folders = |jsonl: &str, events: &str| {
            let text = format!(
                "[[camera]]\nname = \"door\"\nuri = \"rtsp://c/1\"\ngallery = \"real/g\"\n\
                 jsonl = {{ path = \"{jsonl}\" }}\nevents = {{ path = \"{events}\" }}"
            );
            let config = file::parse(&text, &root).expect("valid").0;
            config.cameras[0].folders().into_iter().collect::<Vec<_>>()
        };
        assert_eq!(folders("links/door", "alias/e"), [at("links"), at("real")]);
        assert_eq!(folders("-", "/dev/null"), [at("real")]);
        assert_eq!(folders("alias/new/x", "-"), [at("real"), at("real/new")]);
    }

    #[test]
    fn the_example_shows_every_key() {
        let text = include_str!("../../../docs/live.toml");
        let config = parse(text).expect("valid");
        assert_eq!(config.cameras.len(), 2);
        // Includes the commented-out keys, except the sources of secrets, which do not exist.
        let all: String = text
            .lines()
            .filter(|line| !line.contains("password") && !line.contains("webhooks"))
            .map(|line| {
                line.strip_prefix('#')
                    .filter(|l| l.contains(" = "))
                    .unwrap_or(line)
            })
            .map(|line| format!("{line}\n"))
            .collect();
        let all = parse(&all).expect("valid");
        assert_eq!(all.state.as_deref(), Some(Path::new("/var/lib/facepipe")));
        assert_eq!(all.cameras[0].username.as_deref(), Some("admin"));
        for key in [
            "password-env",
            "password-file",
            "webhooks",
            "token-env",
            "timeout",
            "anonymous",
        ] {
            assert!(text.contains(key), "{key}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_the_cameras_name() {
        let camera =
            |more: &str| format!("[[camera]]\nname = \"door\"\nuri = \"rtsp://c/1\"\n{more}");
        for (text, needle) in [
            (camera("colour = 3"), "colour"),
            (camera("latency = \"2h\""), "latency"),
            (camera("stages = { interval = 0 }"), "interval"),
            (camera("stages = { algorithm = \"x\" }"), "ocsort"),
            (
                camera("password-env = \"X_NOT_SET_HERE\""),
                "X_NOT_SET_HERE",
            ),
            (
                camera("segments = { folder = \"x\", length = \"1ms\" }"),
                "length",
            ),
            (
                camera("events = { webhooks = [{ url = \"ftp://x\" }] }"),
                "ftp://x",
            ),
            (camera("") + &camera(""), "another camera has this name"),
        ] {
            let error = refusal(&text);
            assert!(
                error.contains(needle) && error.contains("door"),
                "{text}: {error}"
            );
        }
        assert!(refusal("").contains("no [[camera]]"));
        let long = format!("[defaults]\ngallery = \"{}\"\n", "x".repeat(17_000));
        assert!(refusal(&(long + &camera(""))).contains("more than 16384"));
        assert!(
            refusal("[[camera]]\nname = \"../x\"\nuri = \"rtsp://c/1\"")
                .contains("not a valid name")
        );
    }

    #[test]
    fn strangers_are_told_apart_and_not_written_by_default() {
        let camera = "[[camera]]\nname = \"door\"\nuri = \"rtsp://c/1\"\n";
        let strangers =
            |keys: &str| Ok::<_, anyhow::Error>(parse(&format!("{keys}{camera}"))?.strangers);
        let default = strangers("").expect("valid");
        assert!(default.enabled && default.remember.is_none() && default.folder().is_none());
        assert_eq!(default.forget_after, Duration::from_secs(7 * 86_400));
        let kept = strangers("[strangers]\nremember = \"s.json\"\nmost = 5\n").expect("valid");
        assert_eq!(
            kept.remember.as_deref(),
            Some(Path::new("/etc/facepipe/s.json"))
        );
        assert_eq!((kept.most, kept.folder().is_some()), (5, true));
        for (keys, needle) in [
            ("remember = true", "strangers.remember: true names no file"),
            ("most = 0", "strangers.most"),
            ("visit-gap = \"0s\"", "strangers.visit-gap"),
            ("forget = 1", "unknown field `forget`"),
        ] {
            let error = strangers(&format!("[strangers]\n{keys}\n")).expect_err("refused");
            assert!(format!("{error:#}").contains(needle), "{keys}: {error:#}");
        }
    }

    #[test]
    fn credentials_in_an_address_are_refused_and_not_repeated() {
        let error = refusal("[[camera]]\nname = \"door\"\nuri = \"rtsp://me:hunter2@c/1\"");
        assert!(error.contains("password-env"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        let error = refusal("[[camera]]\nname = \"door\"");
        assert!(error.contains("uri-env"), "{error}");
    }

    #[test]
    fn an_address_can_be_secret() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let uri = "rtsp://me:hunter3@cam/live?user=me&password=hunter4";
        std::fs::write(folder.path().join("door.uri"), format!("{uri}\n")).expect("writable");
        let text = "[[camera]]\nname = \"door\"\nuri-file = \"door.uri\"";
        let config = file::parse(text, folder.path()).expect("valid").0;
        assert_eq!(config.cameras[0].uri, uri);
        for text in [uri, "PLAY /live?user=me&password=hunter4", "hunter3"] {
            let text = face_parts::address::redact(text);
            assert!(!text.contains("hunter"), "{text}");
        }
    }
}
