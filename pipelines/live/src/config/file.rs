//! The rules for a configuration, and its conversion from the file's form.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::amount::{Size, Time};
use super::place::{At, Places, Problem, Problems, Wrong, problem_at};
use super::schema::{CameraFile, EventsFile, File, Remember, StrangersFile};
use super::{
    Camera, Config, Events, Jsonl, RestreamServer, Rotation, Segments, Server, Strangers, Webhook,
};
use face_parts::secret::{Place, Secret};

/// Placeholder for the camera's name in paths.
const CAMERA: &str = "{camera}";

/// More cameras than this are a mistake.
const MOST_CAMERAS: usize = 1000;

/// More strangers than this take too much memory.
const MOST_STRANGERS: usize = 20_000;

/// The limit of `[defaults]` in bytes, as every camera keeps a copy.
const MOST_DEFAULTS: usize = 16 << 10;

/// Parses the text of a configuration file in `folder`, and reports everything that is wrong with it.
pub fn parse(text: &str, folder: &Path) -> Result<(Config, Places), Problems> {
    let mut table = match DeTable::parse(text) {
        Ok(table) => table.into_inner(),
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            return Err(only(problem_at(text, at, error.message())));
        }
    };
    let places = Places::new(text, &table);
    let defaults = match table.remove("defaults").map(Spanned::into_inner) {
        None => DeTable::new(),
        Some(DeValue::Table(defaults)) => defaults,
        Some(_) => return Err(only(places.problem("defaults", "defaults: not a table"))),
    };
    let cameras = match table.remove("camera").map(Spanned::into_inner) {
        None => Vec::new(),
        Some(DeValue::Array(cameras)) => cameras.into_iter().collect(),
        Some(_) => {
            let message = "camera: not a list; write [[camera]]";
            return Err(only(places.problem("camera", message)));
        }
    };
    if cameras.len() > MOST_CAMERAS {
        let message = format!("{} cameras, more than {MOST_CAMERAS}", cameras.len());
        return Err(only(places.problem("camera", message)));
    }
    let bytes = weight(&defaults);
    if bytes > MOST_DEFAULTS {
        let message = format!("[defaults] has {bytes} bytes, more than {MOST_DEFAULTS}");
        return Err(only(places.problem("defaults", message)));
    }

    let mut problems = Problems::default();
    let mut note = |problem: Problem| problems.list.push(problem);
    let whole = Spanned::new(0..text.len(), DeValue::Table(table));
    let head = File::deserialize(ValueDeserializer::from(whole));
    let head = head.map_err(|error| note(of_toml(&error, &places, "")));
    let head = head.and_then(|file| {
        Head::parse(file, folder)
            .map_err(|error| note(places.problem(key(&error), format!("{error:#}"))))
    });
    if cameras.is_empty() {
        note(places.problem("", "there is no [[camera]]"));
    }
    let mut read: Vec<Camera> = Vec::new();
    for (i, own) in cameras.into_iter().enumerate() {
        let name = own.get_ref().get("name").and_then(|n| n.get_ref().as_str());
        let label = match name {
            Some(name) => format!("camera `{name}`: "),
            None => format!("camera {}: ", i + 1),
        };
        let span = own.span();
        let DeValue::Table(own) = own.into_inner() else {
            note(places.problem_at(span.start, format!("{label}not a table")));
            continue;
        };
        let mut table = defaults.clone();
        overlay(&mut table, own);
        let table = Spanned::new(span, DeValue::Table(table));
        let file = match CameraFile::deserialize(ValueDeserializer::from(table)) {
            Ok(file) => file,
            Err(error) => {
                note(of_toml(&error, &places, &label));
                continue;
            }
        };
        match Camera::parse(file, folder) {
            Ok(camera) if read.iter().any(|other| other.name == camera.name) => {
                let message = format!("{label}another camera has this name");
                note(places.camera_problem(i, "name", message));
            }
            Ok(camera) => read.push(camera),
            Err(error) => {
                note(places.camera_problem(i, key(&error), format!("{label}{error:#}")));
            }
        }
    }
    if let Ok(head) = &head
        && let Some(message) = head.clash(&read)
    {
        note(places.problem("restream.listen", message));
    }
    match (problems.into_result(), head) {
        (Ok(()), Ok(head)) => {
            let config = Config {
                folder: folder.to_owned(),
                state: head.state,
                server: head.server,
                restream: head.restream,
                strangers: head.strangers,
                cameras: read,
            };
            Ok((config, places))
        }
        (Err(problems), _) => Err(problems),
        (Ok(()), Err(())) => Err(Problems::default()),
    }
}

fn only(problem: Problem) -> Problems {
    let mut problems = Problems::default();
    problems.list.push(problem);
    problems
}

/// The key to which an error belongs.
fn key(error: &anyhow::Error) -> &str {
    error.downcast_ref::<Wrong>().map_or("", |wrong| &wrong.key)
}

/// The problem reported by the TOML parser, which does not name the key.
fn of_toml(error: &toml::de::Error, places: &Places, label: &str) -> Problem {
    let span = error.span().unwrap_or_default();
    let path = places.key_at(&span).unwrap_or_default();
    // Without the part that the label already gives.
    let inner = path
        .strip_prefix("camera.")
        .map_or(path.strip_prefix("defaults.").unwrap_or(path), |rest| {
            rest.split_once('.').map_or("", |(_, inner)| inner)
        });
    let key = match inner {
        "" => String::new(),
        inner => format!("{inner}: "),
    };
    places.problem_at(span.start, format!("{label}{key}{}", error.message()))
}

/// The approximate size of a table's copy, in bytes.
fn weight(table: &DeTable) -> usize {
    fn of(value: &DeValue) -> usize {
        match value {
            DeValue::String(text) => text.len(),
            DeValue::Array(array) => array.iter().map(|v| 8 + of(v.get_ref())).sum(),
            DeValue::Table(table) => weight(table),
            _ => 8,
        }
    }
    table
        .iter()
        .map(|(key, value)| key.get_ref().len() + of(value.get_ref()))
        .sum()
}

/// Everything that does not belong to a camera.
struct Head {
    state: Option<PathBuf>,
    server: Server,
    restream: RestreamServer,
    strangers: Strangers,
}

impl Head {
    fn parse(file: File, folder: &Path) -> Result<Self> {
        let restream = file.restream;
        let place = Place {
            password_env: restream.password_env,
            password_file: restream.password_file,
        };
        Ok(Self {
            state: file.state.map(|path| folder.join(path)),
            server: file.server,
            restream: RestreamServer {
                listen: restream.listen,
                username: restream.username,
                password: place.read(folder).at("restream")?,
                anonymous: restream.anonymous,
            },
            strangers: Strangers::parse(file.strangers, folder).at("strangers")?,
        })
    }

    /// Why the two servers cannot both listen.
    fn clash(&self, cameras: &[Camera]) -> Option<String> {
        let (own, other) = (self.restream.listen, self.server.listen);
        let both = cameras.iter().any(|camera| camera.restream) && !self.server.disabled;
        let meet =
            own.ip() == other.ip() || own.ip().is_unspecified() || other.ip().is_unspecified();
        (both && meet && own.port() == other.port() && own.port() != 0).then(|| {
            format!(
                "restream.listen: {own} and server.listen, {other}, are the same port; change one of them"
            )
        })
    }
}

impl Strangers {
    fn parse(file: StrangersFile, folder: &Path) -> Result<Self> {
        let remember = match file.remember {
            None | Some(Remember::Whether(false)) => None,
            Some(Remember::File(path)) => Some(folder.join(path)),
            Some(Remember::Whether(true)) => {
                let error = anyhow!("true names no file; write a path, such as \"strangers.json\"");
                return Err(error).at("remember");
            }
        };
        let most = file.most.unwrap_or(1000);
        let check = || {
            ensure!(
                (1..=MOST_STRANGERS).contains(&most),
                "{most} is not within 1 to {MOST_STRANGERS}"
            );
            Ok(())
        };
        check().at("most")?;
        Ok(Self {
            enabled: file.enabled.unwrap_or(true),
            most,
            forget_after: duration("forget-after", file.forget_after, 604_800.0, 60.0..=3.2e8)?,
            visit_gap: duration("visit-gap", file.visit_gap, 60.0, 1.0..=86400.0)?,
            remember,
        })
    }
}

impl Camera {
    fn parse(file: CameraFile, folder: &Path) -> Result<Self> {
        let name = file.name;
        check_name(&name).at("name")?;
        let hidden = Place {
            password_env: file.uri_env,
            password_file: file.uri_file,
        };
        let uri = match (file.uri, hidden.read(folder).context("uri-env, uri-file")?) {
            (Some(uri), None) => check_uri(&uri).at("uri")?,
            (None, Some(uri)) => hide(&uri),
            _ => bail!("set exactly one of `uri`, `uri-env` and `uri-file`"),
        };
        let path = |path: PathBuf| -> Result<PathBuf> {
            let text = path.to_str().context("a path is not UTF-8")?;
            Ok(folder.join(text.replace(CAMERA, &name)))
        };
        // As in all commands.
        let lines = |to: PathBuf| match to == Path::new("-") {
            true => Ok("/dev/stdout".into()),
            false => path(to),
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
        if let Err((key, error)) = stages.check() {
            Err::<(), _>(error).at(key).at("stages")?;
        }
        let jsonl = file
            .jsonl
            .map(|jsonl| {
                Ok::<_, anyhow::Error>(Jsonl {
                    path: lines(jsonl.path).at("path")?,
                    rotation: rotation(jsonl.max_size, jsonl.max_age, jsonl.keep)?,
                    only_faces: jsonl.only_faces,
                })
            })
            .transpose()
            .at("jsonl")?;
        let segments = file
            .segments
            .map(|segments| {
                Ok::<_, anyhow::Error>(Segments {
                    folder: path(segments.folder).at("folder")?,
                    format: segments.format,
                    length: duration("length", segments.length, 60.0, 1.0..=86400.0)?,
                    keep: segments.keep.unwrap_or(0),
                })
            })
            .transpose()
            .at("segments")?;
        let events = file
            .events
            .map(|events| Events::parse(events, folder, lines))
            .transpose()
            .at("events")?;
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

impl Events {
    fn parse(
        file: EventsFile,
        folder: &Path,
        path: impl Fn(PathBuf) -> Result<PathBuf>,
    ) -> Result<Self> {
        let webhooks = file.webhooks.into_iter().enumerate().map(|(i, hook)| {
            let webhook = || {
                check_webhook(&hook.url).at("url")?;
                let token = Place {
                    password_env: hook.token_env,
                    password_file: hook.token_file,
                };
                anyhow::Ok(Webhook {
                    token: token.read(folder).context("the token of a webhook")?,
                    timeout: duration("timeout", hook.timeout, 10.0, 0.1..=300.0)?,
                    url: hook.url,
                })
            };
            webhook().at(format_args!("webhooks.{i}"))
        });
        Ok(Self {
            path: file.path.map(path).transpose().at("path")?,
            rotation: rotation(file.max_size, file.max_age, file.keep)?,
            webhooks: webhooks.collect::<Result<_>>()?,
            left_after: duration("left-after", file.left_after, 5.0, 0.0..=86400.0)?,
            stranger_after: duration("stranger-after", file.stranger_after, 2.0, 0.0..=86400.0)?,
        })
    }
}

/// Puts `own` over `base`, including nested tables. `false` instead of a table removes it.
fn overlay<'t>(base: &mut DeTable<'t>, own: DeTable<'t>) {
    for (key, value) in own {
        let before = base.get_mut(key.get_ref().as_ref());
        match (before.map(Spanned::get_mut), value.get_ref()) {
            (Some(DeValue::Table(before)), DeValue::Table(_)) => {
                if let DeValue::Table(own) = value.into_inner() {
                    overlay(before, own);
                }
            }
            (Some(DeValue::Table(_)), DeValue::Boolean(false)) => {
                base.remove(key.get_ref().as_ref());
            }
            _ => {
                // Otherwise the position of the old key would stay.
                base.remove(key.get_ref().as_ref());
                base.insert(key, value);
            }
        }
    }
}

/// A name is used in paths, addresses and metrics.
fn check_name(name: &str) -> Result<()> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    // File names are limited to 255 bytes, and they also contain a time.
    ensure!(
        (1..=64).contains(&name.chars().count()) && name.len() <= 192,
        "{name:?} is not a valid name: it must have 1 to 64 characters and at most 192 bytes"
    );
    ensure!(
        name.chars().all(fits) && !name.starts_with('.'),
        "{name:?} is not a valid name: letters (of any script), digits, - _ and . (not first) are allowed"
    );
    Ok(())
}

/// Checks a URI without credentials. The path of a file becomes a URI.
fn check_uri(text: &str) -> Result<String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return face_parts::stages::uri(Path::new(text));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if scheme != "file" && authority.contains('@') {
        bail!(
            "the address contains credentials; write them as `username` and `password-env` or \
             `password-file`"
        );
    }
    Ok(text.to_owned())
}

/// Checks the address of a webhook.
fn check_webhook(url: &str) -> Result<()> {
    ensure!(
        url.starts_with("http://") || url.starts_with("https://"),
        "`{url}` is not an http:// or https:// address"
    );
    let parsed: ureq::http::Uri = url.parse()?;
    ensure!(
        parsed.host().is_some_and(|host| !host.is_empty()),
        "`{url}` names no host"
    );
    Ok(())
}

/// Registers each part of a secret address that may be secret by itself: cheap cameras take
/// passwords in the query. Returns the address.
fn hide(uri: &Secret) -> String {
    let uri = uri.reveal();
    face_parts::address::whole(uri);
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

/// Parses a duration within a range. Its unit is seconds by default.
fn duration(
    name: &str,
    value: Option<Time>,
    default: f64,
    range: std::ops::RangeInclusive<f64>,
) -> Result<Duration> {
    let seconds = value.map_or(default, |Time(value)| value.as_secs_f64());
    let check = || {
        ensure!(
            range.contains(&seconds),
            "{seconds} s is not within {} s to {} s",
            range.start(),
            range.end()
        );
        Ok(Duration::from_secs_f64(seconds))
    };
    check().at(name)
}

fn rotation(size: Option<Size>, age: Option<Time>, keep: Option<usize>) -> Result<Rotation> {
    let Size(max_size) = size.unwrap_or(Size(100_000_000));
    let check = || {
        ensure!(
            max_size >= 1000,
            "{max_size} bytes are too few; the minimum is 1000"
        );
        Ok(())
    };
    check().at("max-size")?;
    Ok(Rotation {
        max_size,
        max_age: duration("max-age", age, 86400.0, 1.0..=3.2e7)?,
        keep: keep.unwrap_or(0),
    })
}
