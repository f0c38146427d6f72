//! CVAT for video XML 1.1: tracks of boxes, a label or an attribute `name` saying who it is.
//!
//! CVAT writes a box for every frame of a track, `outside="1"` where it has left. Where frames
//! are left out between two boxes, the box moves evenly from one to the other, as in CVAT. A track ends
//! with its last box.
//!
//! Entities of a document type are never expanded.

use std::collections::HashMap;
use std::io::BufRead;

use anyhow::{Context, Result, anyhow, bail, ensure};
use face_core::geometry::Rect;
use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};

use super::input::Pieces;
use super::truth::{Builder, Gender, Segment, Truth};

/// Elements inside of each other; CVAT's own files have eight at most.
const DEEPEST: usize = 64;
/// Attributes and meta data are short; more of a text is not kept.
const LONGEST_TEXT: usize = 1024;

pub fn read(input: impl BufRead, names: &HashMap<String, String>) -> Result<Truth> {
    let mut reader = quick_xml::Reader::from_reader(Pieces::new(input));
    reader.config_mut().expand_empty_elements = true;
    let mut document = Document::new(names);
    let mut buffer = Vec::new();
    loop {
        let line = reader.get_ref().line();
        reader.get_mut().start_piece();
        buffer.clear();
        let more = reader
            .read_event_into(&mut buffer)
            .map_err(|e| anyhow!("{e}"))
            .and_then(|event| document.handle(&event))
            .with_context(|| format!("line {line}"))?;
        if !more {
            break;
        }
    }
    document.finish()
}

/// A box of the track that is being read.
struct Key {
    frame: u64,
    rect: Rect,
    outside: bool,
    age: Option<f64>,
    gender: Option<Gender>,
}

#[derive(Default)]
struct Track {
    label: String,
    /// From an attribute `name`.
    name: Option<String>,
    age: Option<f64>,
    gender: Option<Gender>,
    keys: Vec<Key>,
}

struct Document<'a> {
    builder: Builder<'a>,
    /// Names of the open elements, outermost first.
    open: Vec<String>,
    track: Option<Track>,
    /// Text of the innermost element so far.
    text: String,
    /// Of the open `<attribute>`.
    attribute: String,
    width: Option<f64>,
    height: Option<f64>,
}

impl<'a> Document<'a> {
    fn new(names: &'a HashMap<String, String>) -> Self {
        Self {
            builder: Builder::new(names),
            open: Vec::new(),
            track: None,
            text: String::new(),
            attribute: String::new(),
            width: None,
            height: None,
        }
    }

    /// Takes in one event; `false` at the end.
    fn handle(&mut self, event: &Event) -> Result<bool> {
        match event {
            Event::Start(element) => {
                self.start(element)?;
                self.text.clear();
                let name = element.name().as_ref().to_owned();
                ensure!(
                    self.open.len() < DEEPEST,
                    "more than {DEEPEST} elements are inside of each other"
                );
                self.open.push(name);
            }
            Event::End(_) => {
                self.end()?;
                self.open.pop();
                self.text.clear();
            }
            Event::Text(text) => self.add_text(&text.xml10_content()),
            Event::CData(text) => self.add_text(&text.xml10_content()),
            Event::GeneralRef(reference) => {
                let character = reference.resolve_char_ref()?;
                let name = reference.xml10_content();
                match (character, resolve_predefined_entity(&name)) {
                    (Some(c), _) => self.add_text(c.encode_utf8(&mut [0; 4])),
                    (None, Some(text)) => self.add_text(text),
                    (None, None) => bail!("the entity &{name}; is not known"),
                }
            }
            Event::Eof => {
                if let Some(name) = self.open.last() {
                    bail!("the file ends inside of <{name}>; it is not whole");
                }
                return Ok(false);
            }
            Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::DocType(_)
            | Event::Empty(_) => {}
        }
        Ok(true)
    }

    fn add_text(&mut self, text: &str) {
        if self.text.len() + text.len() <= LONGEST_TEXT {
            self.text.push_str(text);
        }
    }

    fn start(&mut self, element: &BytesStart) -> Result<()> {
        let name = element.name();
        let name = name.as_ref();
        if self.open.is_empty() {
            ensure!(
                name == "annotations",
                "<{name}> begins no CVAT file; <annotations> does"
            );
            return Ok(());
        }
        match (name, self.track.as_mut()) {
            ("image", _) => bail!(
                "these are CVAT annotations for images, which know no tracks; \
                 export the task as CVAT for video 1.1"
            ),
            ("track", None) => {
                let label = attribute(element, "label")?;
                self.track = Some(Track {
                    label: label.trim().to_owned(),
                    ..Default::default()
                });
            }
            ("track", Some(_)) => bail!("a <track> is inside of a <track>"),
            ("box", Some(track)) => {
                let key = read_box(element)?;
                if let Some(before) = track.keys.last().filter(|k| k.frame >= key.frame) {
                    bail!(
                        "a box on frame {} follows one on frame {} of the same track",
                        key.frame,
                        before.frame
                    );
                }
                track.keys.push(key);
            }
            ("polygon" | "polyline" | "points" | "cuboid" | "ellipse" | "mask" | "skeleton", _) => {
                self.builder.truth.other_shapes += 1;
            }
            ("attribute", Some(_)) => self.attribute = attribute(element, "name")?,
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let (Some(name), parent) = (
            self.open.last().map(String::as_str),
            self.open.iter().rev().nth(1).map(String::as_str),
        ) else {
            return Ok(());
        };
        let text = self.text.trim();
        if let Some(track) = &mut self.track {
            match (name, parent) {
                ("attribute", Some("box" | "track")) => {
                    track.describe(&self.attribute, text, parent == Some("box"));
                }
                ("track", _) => self.end_track()?,
                _ => {}
            }
            return Ok(());
        }
        let truth = &mut self.builder.truth;
        match (name, parent) {
            ("start_frame", Some("task" | "job")) => truth.first = number(name, text)?,
            ("stop_frame", Some("task" | "job")) => truth.last = Some(number(name, text)?),
            ("frame_filter", Some("task" | "job")) => {
                if let Some(step) = text.strip_prefix("step=") {
                    truth.step = number::<u64>("the step of the frame_filter", step)?.max(1);
                }
            }
            ("width", Some("original_size")) => self.width = Some(number(name, text)?),
            ("height", Some("original_size")) => self.height = Some(number(name, text)?),
            _ => {}
        }
        Ok(())
    }

    fn end_track(&mut self) -> Result<()> {
        let Some(track) = self.track.take() else {
            return Ok(());
        };
        let label = track.name.as_deref().unwrap_or(&track.label);
        ensure!(!label.is_empty(), "a <track> has neither label nor name");
        let number = self.builder.add_track(label);
        for (i, key) in track.keys.iter().enumerate() {
            if key.outside {
                continue;
            }
            let next = track.keys.get(i + 1);
            // Up to the frame before the next box.
            let last = next.map_or(key.frame, |n| n.frame - 1);
            let change = match next {
                Some(next) if !next.outside => change(key, next),
                _ => Rect::default(),
            };
            self.builder.add(Segment {
                track: number,
                first: key.frame,
                last,
                rect: key.rect,
                change,
                age: key.age.or(track.age),
                gender: key.gender.or(track.gender),
            })?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Truth> {
        if let (Some(w), Some(h)) = (self.width, self.height) {
            ensure!(
                w > 0.0 && h > 0.0 && w <= 1e6 && h <= 1e6,
                "the original_size is {w} x {h}"
            );
            self.builder.truth.size = Some((w, h));
        }
        let truth = &self.builder.truth;
        if truth.last.is_some_and(|last| last < truth.first) {
            bail!("the stop_frame comes before the start_frame");
        }
        self.builder.finish()
    }
}

impl Track {
    /// Takes in an attribute of the last box, or of the whole track. Values that say nothing are
    /// left out.
    fn describe(&mut self, attribute: &str, value: &str, of_box: bool) {
        let key = self.keys.last_mut().filter(|_| of_box);
        let (age, gender) = match key {
            Some(key) => (&mut key.age, &mut key.gender),
            None => (&mut self.age, &mut self.gender),
        };
        match attribute.to_lowercase().as_str() {
            // CVAT's word for a choice that was not made.
            "name" if !value.is_empty() && value != "__undefined__" => {
                self.name.get_or_insert_with(|| value.to_owned());
            }
            "age" => {
                *age = value.parse().ok().filter(|age| (0.0..=200.0).contains(age));
            }
            "gender" | "sex" => *gender = Gender::parse(value),
            _ => {}
        }
    }
}

/// What changes from one frame to the next between two boxes.
fn change(from: &Key, to: &Key) -> Rect {
    let frames = (to.frame - from.frame) as f64;
    Rect::new(
        (to.rect.x - from.rect.x) / frames,
        (to.rect.y - from.rect.y) / frames,
        (to.rect.w - from.rect.w) / frames,
        (to.rect.h - from.rect.h) / frames,
    )
}

fn read_box(element: &BytesStart) -> Result<Key> {
    let coordinate = |name| -> Result<f64> {
        let value: f64 = number(name, &attribute(element, name)?)?;
        ensure!(value.abs() <= 1e6, "{name} is {value}");
        Ok(value)
    };
    let (left, top) = (coordinate("xtl")?, coordinate("ytl")?);
    let (right, bottom) = (coordinate("xbr")?, coordinate("ybr")?);
    let outside = match attribute(element, "outside")?.as_str() {
        "0" => false,
        "1" => true,
        other => bail!("outside is {other:?} and not 0 or 1"),
    };
    ensure!(
        outside || (right > left && bottom > top),
        "the box from ({left}, {top}) to ({right}, {bottom}) is empty"
    );
    Ok(Key {
        frame: number("frame", &attribute(element, "frame")?)?,
        rect: Rect::new(left, top, right - left, bottom - top),
        outside,
        age: None,
        gender: None,
    })
}

/// The value of an attribute that has to be there.
fn attribute(element: &BytesStart, name: &str) -> Result<String> {
    let found = element.try_get_attribute(name)?;
    let found = found.with_context(|| {
        let element = element.name();
        format!("<{}> has no {name}", element.as_ref())
    })?;
    let value = found.normalized_value(XmlVersion::Implicit1_0)?;
    Ok(value.into_owned())
}

fn number<T: std::str::FromStr>(what: &str, text: &str) -> Result<T> {
    let shown: String = text.chars().take(40).collect();
    text.trim()
        .parse()
        .ok()
        .with_context(|| format!("{what} is {shown:?}, which is no such number"))
}
