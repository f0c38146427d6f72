//! Formats events of `tracing` as lines.

use std::fmt::{self, Write};
use std::io::{IsTerminal, stderr};

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::Format;
use super::queue::Queue;

/// Longer texts are cut, so that the queue is also limited in bytes.
const LONGEST: usize = 4096;

/// Makes a line of each event.
pub struct Lines {
    format: Format,
    colour: bool,
    queue: Queue,
}

impl Lines {
    pub fn new(format: Format, queue: Queue) -> Self {
        let colour = format == Format::Text
            && stderr().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            format,
            colour,
            queue,
        }
    }
}

/// The camera of a span.
struct Camera(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes, id: &Id, context: Context<S>) {
        if attributes.metadata().name() != "camera" {
            return;
        }
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let (Some(span), Some(Value::String(name))) = (context.span(id), fields.0.remove("name"))
        {
            span.extensions_mut().insert(Camera(name));
        }
    }

    fn on_event(&self, event: &Event, context: Context<S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let of_span = || {
            let mut scope = context.event_scope(event)?;
            scope.find_map(|span| Some(span.extensions().get::<Camera>()?.0.clone()))
        };
        let camera = match fields.0.remove("camera") {
            Some(Value::String(camera)) => Some(camera),
            _ => of_span(),
        };
        let message = match fields.0.remove("message") {
            Some(Value::String(message)) => message,
            _ => String::new(),
        };
        // Errors of a camera begin with its name, which is in the line anyway.
        let message = match camera.as_deref().and_then(|c| message.strip_prefix(c)) {
            Some(rest) if rest.starts_with(": ") => rest[2..].to_owned(),
            _ => message,
        };
        let line = Line {
            time: jiff::Timestamp::now(),
            level: *event.metadata().level(),
            target: event.metadata().target(),
            camera,
            message,
            fields: fields.0,
        };
        self.queue.push(match self.format {
            Format::Text => line.text(self.colour),
            Format::Json => line.json(),
        });
    }
}

/// The content of a line.
struct Line<'a> {
    time: jiff::Timestamp,
    level: Level,
    target: &'a str,
    camera: Option<String>,
    message: String,
    fields: Map<String, Value>,
}

/// The crates of this program.
const OURS: [&str; 5] = [
    "facepipe",
    "face_analysis",
    "face_gallery",
    "face_live",
    "face_parts",
];

impl Line<'_> {
    /// The origin, unless it is this program.
    fn speaker(&self) -> Option<&str> {
        let own = self.target.split("::").next();
        let ours = own.is_some_and(|own| OURS.contains(&own));
        (!ours).then_some(self.target)
    }

    /// `2026-01-31T12:00:00.000Z  INFO door: the stream has started frames=3`
    fn text(&self, colour: bool) -> String {
        let (on, off) = match (colour, self.level) {
            (false, _) => ("", ""),
            (true, Level::ERROR) => ("\x1b[31m", "\x1b[0m"),
            (true, Level::WARN) => ("\x1b[33m", "\x1b[0m"),
            (true, Level::INFO) => ("\x1b[32m", "\x1b[0m"),
            (true, _) => ("\x1b[2m", "\x1b[0m"),
        };
        let mut out = format!("{:.3} {on}{:>5}{off} ", self.time, self.level.as_str());
        for part in [self.camera.as_deref(), self.speaker()]
            .into_iter()
            .flatten()
        {
            out.push_str(part);
            out.push_str(": ");
        }
        one_line(&mut out, &self.message);
        for (name, value) in &self.fields {
            out.push(' ');
            out.push_str(name);
            out.push('=');
            match value {
                Value::String(text) if !text.is_empty() && !text.contains([' ', '"', '=']) => {
                    one_line(&mut out, text);
                }
                other => out.push_str(&other.to_string()),
            }
        }
        out
    }

    fn json(mut self) -> String {
        #[derive(Serialize)]
        struct Object<'a> {
            time: String,
            level: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            camera: Option<String>,
            target: &'a str,
            message: String,
            #[serde(flatten)]
            fields: Map<String, Value>,
        }
        self.fields
            .retain(|name, _| !["time", "level", "target"].contains(&name.as_str()));
        let object = Object {
            time: format!("{:.3}", self.time),
            level: self.level.as_str().to_lowercase(),
            camera: self.camera,
            target: self.target,
            message: self.message,
            fields: self.fields,
        };
        // Cannot fail for maps with text keys.
        serde_json::to_string(&object).unwrap_or_default()
    }
}

/// The last position up to `at` at which `text` can be cut.
fn boundary(text: &str, at: usize) -> usize {
    let mut places = (0..=at.min(text.len())).rev();
    places.find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// Appends `text` with its control characters escaped, so that they neither start a line nor move a
/// terminal's cursor.
fn one_line(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\t' => out.push(' '),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
}

/// The fields of an event.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().into(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // Three decimals are enough, and readable.
        self.put(field, (value * 1000.0).round() / 1000.0);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Cut::default();
        // Fails when the text is cut.
        let _ = write!(text, "{value:?}");
        self.put(field, text.finish());
    }
}

/// Collects slightly more than [`LONGEST`] bytes of text, so that no secret is cut in half.
#[derive(Default)]
struct Cut(String);

impl Cut {
    const ROOM: usize = LONGEST + 1024;

    /// Up to [`LONGEST`] bytes, without secrets. After JSON escaping they would not be found.
    fn finish(self) -> String {
        let mut text = face_parts::address::redact(&self.0);
        if text.len() > LONGEST {
            text.truncate(boundary(&text, LONGEST));
            text.push('…');
        }
        text
    }
}

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = Self::ROOM.saturating_sub(self.0.len());
        self.0.push_str(&text[..boundary(text, room)]);
        if text.len() > room {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use face_parts::secret::Secret;

    fn line(message: &str, fields: &[(&str, Value)]) -> Line<'static> {
        Line {
            time: "2026-01-31T12:00:00.12345Z".parse().expect("a time"),
            level: Level::WARN,
            target: "gstreamer::rtspsrc",
            camera: Some("door".into()),
            message: message.into(),
            fields: fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
        }
    }

    #[test]
    fn a_line_for_people() {
        let fields = [("object", "src 0".into()), ("more", 3.into())];
        assert_eq!(
            line("timeout", &fields).text(false),
            "2026-01-31T12:00:00.123Z  WARN door: gstreamer::rtspsrc: timeout more=3 object=\"src 0\""
        );
        // Our own targets are not shown.
        for target in [module_path!(), "facepipe", "facepipe::live"] {
            let own = Line {
                target,
                ..line("timeout", &[])
            };
            assert_eq!(
                own.text(false),
                "2026-01-31T12:00:00.123Z  WARN door: timeout"
            );
        }
    }

    #[test]
    fn foreign_text_forges_no_lines() {
        let text = line("one\ntwo\x1b[2J", &[]).text(false);
        assert!(text.ends_with(": one\\ntwo\\u{1b}[2J"), "{text}");
        let json = line("one\ntwo", &[("level", "info".into())]).json();
        assert!(!json.contains('\n'));
        let json: Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(json["message"], "one\ntwo");
        assert_eq!(json["level"], "warn");
        assert_eq!(json["camera"], "door");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let mut cut = Cut::default();
        assert!(write!(cut, "{}", "é".repeat(5000)).is_err());
        let text = cut.finish();
        assert!(text.len() <= LONGEST + 3 && text.ends_with("é…"));
        assert_eq!(Cut("short".into()).finish(), "short");
    }

    #[test]
    fn secrets_are_gone_before_they_are_quoted_or_cut() {
        let secret = Secret::new("pass\"word\\of the layer");
        let mut cut = Cut::default();
        let _ = write!(cut, "a {}", secret.reveal());
        assert_eq!(cut.finish(), "a ***");
        let mut cut = Cut::default();
        let _ = write!(
            cut,
            "{}{}{}",
            "x".repeat(LONGEST - 5),
            secret.reveal(),
            "y".repeat(3000)
        );
        assert!(!cut.finish().contains("pass"));
    }
}
