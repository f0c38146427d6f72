//! The tables of a configuration in the form of its file.

use std::net::SocketAddr;
use std::path::PathBuf;

use face_parts::stages::Options;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::amount::{Size, Time};
use super::{Format, Server, Transport};

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    pub state: Option<PathBuf>,
    #[serde(default)]
    pub server: Server,
    #[serde(default)]
    pub restream: RestreamFile,
    #[serde(default)]
    pub strangers: StrangersFile,
    // These two are read separately. They are listed here for error messages.
    #[expect(dead_code, reason = "see above")]
    defaults: Option<IgnoredAny>,
    #[expect(dead_code, reason = "see above")]
    camera: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RestreamFile {
    pub listen: SocketAddr,
    pub username: String,
    pub password_env: Option<String>,
    pub password_file: Option<PathBuf>,
    pub anonymous: bool,
}

impl Default for RestreamFile {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8554)),
            username: "viewer".into(),
            password_env: None,
            password_file: None,
            anonymous: false,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct StrangersFile {
    pub enabled: Option<bool>,
    pub most: Option<usize>,
    pub forget_after: Option<Time>,
    pub visit_gap: Option<Time>,
    pub remember: Option<Remember>,
}

/// `false`, or a file.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a path, or false")]
pub enum Remember {
    Whether(bool),
    File(PathBuf),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CameraFile {
    pub name: String,
    pub uri: Option<String>,
    pub uri_env: Option<String>,
    pub uri_file: Option<PathBuf>,
    pub username: Option<String>,
    pub password_env: Option<String>,
    pub password_file: Option<PathBuf>,
    #[serde(default)]
    pub transport: Transport,
    pub latency: Option<Time>,
    pub stall_timeout: Option<Time>,
    #[serde(default)]
    pub stages: Options,
    pub gallery: Option<PathBuf>,
    pub jsonl: Option<JsonlFile>,
    #[serde(default)]
    pub restream: bool,
    pub segments: Option<SegmentsFile>,
    pub events: Option<EventsFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct JsonlFile {
    pub path: PathBuf,
    pub max_size: Option<Size>,
    pub max_age: Option<Time>,
    pub keep: Option<usize>,
    #[serde(default)]
    pub only_faces: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SegmentsFile {
    pub folder: PathBuf,
    #[serde(default)]
    pub format: Format,
    pub length: Option<Time>,
    pub keep: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EventsFile {
    pub path: Option<PathBuf>,
    pub max_size: Option<Size>,
    pub max_age: Option<Time>,
    pub keep: Option<usize>,
    #[serde(default)]
    pub webhooks: Vec<WebhookFile>,
    pub left_after: Option<Time>,
    pub stranger_after: Option<Time>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WebhookFile {
    pub url: String,
    pub token_env: Option<String>,
    pub token_file: Option<PathBuf>,
    pub timeout: Option<Time>,
}
