//! The configuration as it stands in its file, and what it must fulfil.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytesize::ByteSize;
use jiff::SignedDuration;
use serde::Deserialize;
use toml::{Table, Value};

use super::{
    Camera, Config, Events, Format, Jsonl, RestreamServer, Rotation, Segments, Server, Stages,
    Transport, Webhook,
};
use crate::live::secret::{Place, Secret};

/// What stands for the camera's name in paths.
const CAMERA: &str = "{camera}";

/// More cameras than this are a mistake in the file.
const MOST_CAMERAS: usize = 1000;

/// The most bytes of `[defaults]`, of which every camera keeps a copy.
const MOST_DEFAULTS: usize = 16 << 10;

/// As it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    state: Option<PathBuf>,
    #[serde(default)]
    server: Server,
    #[serde(default)]
    restream: RestreamFile,
    #[serde(default)]
    defaults: Table,
    #[serde(default)]
    camera: Vec<Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RestreamFile {
    listen: SocketAddr,
    username: String,
    password_env: Option<String>,
    password_file: Option<PathBuf>,
    anonymous: bool,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct CameraFile {
    name: String,
    uri: Option<String>,
    uri_env: Option<String>,
    uri_file: Option<PathBuf>,
    username: Option<String>,
    password_env: Option<String>,
    password_file: Option<PathBuf>,
    #[serde(default)]
    transport: Transport,
    latency: Option<SignedDuration>,
    stall_timeout: Option<SignedDuration>,
    #[serde(default)]
    stages: Stages,
    gallery: Option<PathBuf>,
    jsonl: Option<JsonlFile>,
    #[serde(default)]
    restream: bool,
    segments: Option<SegmentsFile>,
    events: Option<EventsFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct JsonlFile {
    path: PathBuf,
    max_size: Option<ByteSize>,
    max_age: Option<SignedDuration>,
    keep: Option<usize>,
    #[serde(default)]
    only_faces: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SegmentsFile {
    folder: PathBuf,
    #[serde(default)]
    format: Format,
    length: Option<SignedDuration>,
    keep: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct EventsFile {
    path: Option<PathBuf>,
    max_size: Option<ByteSize>,
    max_age: Option<SignedDuration>,
    keep: Option<usize>,
    #[serde(default)]
    webhooks: Vec<WebhookFile>,
    left_after: Option<SignedDuration>,
    stranger_after: Option<SignedDuration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WebhookFile {
    url: String,
    token_env: Option<String>,
    token_file: Option<PathBuf>,
    timeout: Option<SignedDuration>,
}

/// Parses the text of a configuration that stands in `folder`.
pub fn parse(text: &str, folder: &Path) -> Result<Config> {
    let file: File = toml::from_str(text)?;
    ensure!(
        file.camera.len() <= MOST_CAMERAS,
        "{} cameras, more than {MOST_CAMERAS}",
        file.camera.len()
    );
    let defaults = file.defaults.to_string().len();
    ensure!(
        defaults <= MOST_DEFAULTS,
        "[defaults] has {defaults} bytes, more than {MOST_DEFAULTS}"
    );
    let restream = file.restream;
    let place = Place {
        password_env: restream.password_env,
        password_file: restream.password_file,
    };
    let restream = RestreamServer {
        listen: restream.listen,
        username: restream.username,
        password: place.read(folder).context("[restream]")?,
        anonymous: restream.anonymous,
    };
    let mut cameras: Vec<Camera> = Vec::new();
    for (i, own) in file.camera.into_iter().enumerate() {
        let label = match own.get("name").and_then(Value::as_str) {
            Some(name) => format!("camera `{name}`"),
            None => format!("camera {}", i + 1),
        };
        let camera = Camera::parse(&file.defaults, own, folder).with_context(|| label.clone())?;
        ensure!(
            cameras.iter().all(|other| other.name != camera.name),
            "{label}: there are two of that name"
        );
        cameras.push(camera);
    }
    ensure!(!cameras.is_empty(), "there is no [[camera]]");
    Ok(Config {
        folder: folder.to_owned(),
        state: file.state.map(|path| folder.join(path)),
        server: file.server,
        restream,
        cameras,
    })
}

impl Camera {
    fn parse(defaults: &Table, own: Table, folder: &Path) -> Result<Self> {
        let mut table = defaults.clone();
        overlay(&mut table, own);
        let file: CameraFile = Value::Table(table).try_into()?;
        let name = file.name;
        check_name(&name)?;
        let hidden = Place {
            password_env: file.uri_env,
            password_file: file.uri_file,
        };
        let uri = match (file.uri, hidden.read(folder).context("uri-env, uri-file")?) {
            (Some(uri), None) => check_uri(&uri)?,
            (None, Some(uri)) => hide(&uri),
            _ => bail!("name one of `uri`, `uri-env` and `uri-file`"),
        };
        let path = |path: PathBuf| -> Result<PathBuf> {
            let text = path.to_str().context("a path is not UTF-8")?;
            Ok(folder.join(text.replace(CAMERA, &name)))
        };
        let password = Place {
            password_env: file.password_env,
            password_file: file.password_file,
        }
        .read(folder)?;
        ensure!(
            password.is_none() || file.username.is_some(),
            "a password without `username`"
        );
        let mut stages = file.stages;
        stages.gallery = file.gallery.or(stages.gallery).map(path).transpose()?;
        stages.check()?;
        let jsonl = file
            .jsonl
            .map(|jsonl| {
                Ok::<_, anyhow::Error>(Jsonl {
                    path: path(jsonl.path)?,
                    rotation: rotation(jsonl.max_size, jsonl.max_age, jsonl.keep)?,
                    only_faces: jsonl.only_faces,
                })
            })
            .transpose()
            .context("jsonl")?;
        let segments = file
            .segments
            .map(|segments| {
                Ok::<_, anyhow::Error>(Segments {
                    folder: path(segments.folder)?,
                    format: segments.format,
                    length: duration("length", segments.length, 60.0, 1.0..=86400.0)?,
                    keep: segments.keep.unwrap_or(0),
                })
            })
            .transpose()
            .context("segments")?;
        let events = file
            .events
            .map(|events| Events::parse(events, folder, path))
            .transpose()
            .context("events")?;
        Ok(Self {
            uri,
            username: file.username,
            password,
            transport: file.transport,
            latency: duration("latency", file.latency, 0.2, 0.0..=60.0)?,
            stall_timeout: duration("stall-timeout", file.stall_timeout, 10.0, 1.0..=3600.0)?,
            stages,
            jsonl,
            restream: file.restream,
            segments,
            events,
            name,
        })
    }
}

impl Stages {
    fn check(&self) -> Result<()> {
        let within = |name: &str, value: u32, range: std::ops::RangeInclusive<u32>| {
            ensure!(
                range.contains(&value),
                "{name} = {value} is not within {} to {}",
                range.start(),
                range.end()
            );
            Ok(())
        };
        within("interval", self.interval, 1..=1000)?;
        within("inference-size", self.inference_size, 0..=8192)?;
        within("threads", self.threads, 1..=256)?;
        ensure!(
            (0.0..=1.0).contains(&self.confidence),
            "confidence = {} is not within 0 to 1",
            self.confidence
        );
        ensure!(
            ["ocsort", "bytetrack", "iou"].contains(&self.algorithm.as_str()),
            "algorithm = `{}` is none of ocsort, bytetrack, iou",
            self.algorithm
        );
        Ok(())
    }
}

impl Events {
    fn parse(
        file: EventsFile,
        folder: &Path,
        path: impl Fn(PathBuf) -> Result<PathBuf>,
    ) -> Result<Self> {
        let webhooks = file.webhooks.into_iter().map(|hook| {
            ensure!(
                hook.url.starts_with("http://") || hook.url.starts_with("https://"),
                "webhook `{}` is no http:// or https:// address",
                hook.url
            );
            let token = Place {
                password_env: hook.token_env,
                password_file: hook.token_file,
            };
            Ok(Webhook {
                token: token.read(folder).context("the token of a webhook")?,
                timeout: duration("timeout", hook.timeout, 10.0, 0.1..=300.0)?,
                url: hook.url,
            })
        });
        Ok(Self {
            path: file.path.map(path).transpose()?,
            rotation: rotation(file.max_size, file.max_age, file.keep)?,
            webhooks: webhooks.collect::<Result<_>>()?,
            left_after: duration("left-after", file.left_after, 5.0, 0.0..=86400.0)?,
            stranger_after: duration("stranger-after", file.stranger_after, 2.0, 0.0..=86400.0)?,
        })
    }
}

/// Puts `own` over `base`, tables within tables too. `false` for a table takes it away.
fn overlay(base: &mut Table, own: Table) {
    for (key, value) in own {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(own)) => overlay(base, own),
            (Some(Value::Table(_)), Value::Boolean(false)) => {
                base.remove(&key);
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// A name stands in paths, addresses and metrics.
fn check_name(name: &str) -> Result<()> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    ensure!(
        (1..=64).contains(&name.len()) && name.chars().all(fits) && !name.starts_with('.'),
        "`{name}` is no name: 1 to 64 letters, digits, - _ and . (not first)"
    );
    Ok(())
}

/// A URI without credentials; or the path of a file, made one.
fn check_uri(text: &str) -> Result<String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return crate::stages::uri(Path::new(text));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if scheme != "file" && authority.contains('@') {
        bail!(
            "the address holds credentials; write them as `username` and `password-env` or \
             `password-file`"
        );
    }
    Ok(text.to_owned())
}

/// An address that is secret as a whole, and in each part that may be: cheap cameras take passwords in
/// the query.
fn hide(uri: &Secret) -> String {
    let uri = uri.reveal();
    if let Some((_, query)) = uri.split_once('?') {
        Secret::new(query);
    }
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if let Some((credentials, _)) = authority.rsplit_once('@') {
        Secret::new(credentials);
        if let Some((_, password)) = credentials.split_once(':') {
            Secret::new(password);
        }
    }
    uri.to_owned()
}

/// A duration in seconds by default, within a range.
fn duration(
    name: &str,
    value: Option<SignedDuration>,
    default: f64,
    range: std::ops::RangeInclusive<f64>,
) -> Result<Duration> {
    let seconds = value.map_or(default, |value| value.as_secs_f64());
    ensure!(
        range.contains(&seconds),
        "{name}: {seconds} s is not within {} s to {} s",
        range.start(),
        range.end()
    );
    Ok(Duration::from_secs_f64(seconds))
}

fn rotation(
    size: Option<ByteSize>,
    age: Option<SignedDuration>,
    keep: Option<usize>,
) -> Result<Rotation> {
    let max_size = size.map_or(100_000_000, |size| size.as_u64());
    ensure!(
        max_size >= 1000,
        "max-size: {max_size} bytes are less than 1000"
    );
    Ok(Rotation {
        max_size,
        max_age: duration("max-age", age, 86400.0, 1.0..=3.2e7)?,
        keep: keep.unwrap_or(0),
    })
}
