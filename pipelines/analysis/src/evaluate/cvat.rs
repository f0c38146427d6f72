//! Reads CVAT for video XML 1.1: tracks of boxes, with a label or an attribute `name` that says who
//! it is.
//!
//! CVAT writes a box for every frame of a track, with `outside="1"` where the face has left. If
//! frames are missing between two boxes, the box moves evenly from one to the other, as in CVAT. A
//! track ends with its last box.
//!
//! Entities of a document type are never expanded.

use std::collections::HashMap;
use std::io::BufRead;

use anyhow::{Context, Result, anyhow, bail, ensure};
use face_meta::geometry::Rect;
use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};

use super::input::Pieces;
use super::truth::{Builder, Expression, Gender, Segment, Truth};

/// The limit of nested elements; CVAT's own files have at most eight.
const DEEPEST: usize = 64;
/// Attributes and metadata are short; longer texts are cut.
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

/// A box of the track being read.
struct Key {
    frame: u64,
    rect: Rect,
    outside: bool,
    age: Option<f64>,
    gender: Option<Gender>,
    expression: Option<Expression>,
}

#[derive(Default)]
struct Track {
    label: String,
    /// From an attribute `name`.
    name: Option<String>,
    age: Option<f64>,
    gender: Option<Gender>,
    expression: Option<Expression>,
    keys: Vec<Key>,
}

struct Document<'a> {
    builder: Builder<'a>,
    /// The names of the open elements, outermost first.
    open: Vec<String>,
    track: Option<Track>,
    /// The text of the innermost element so far.
    text: String,
    /// The name of the open `<attribute>`.
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

    /// Handles one event. Returns `false` at the end.
    fn handle(&mut self, event: &Event) -> Result<bool> {
        match event {
            Event::Start(element) => {
                self.start(element)?;
                self.text.clear();
                let name = element.name().as_ref().to_owned();
                ensure!(
                    self.open.len() < DEEPEST,
                    "more than {DEEPEST} elements are nested"
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
                    (None, None) => bail!("the entity &{name}; is unknown"),
                }
            }
            Event::Eof => {
                if let Some(name) = self.open.last() {
                    bail!("the file ends inside <{name}>; it is incomplete");
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
                "a CVAT file begins with <annotations>, not with <{name}>"
            );
            return Ok(());
        }
        match (name, self.track.as_mut()) {
            ("image", _) => bail!(
                "these are CVAT annotations for images, which have no tracks; \
                 export the task as CVAT for video 1.1"
            ),
            ("track", None) => {
                let label = attribute(element, "label")?;
                self.track = Some(Track {
                    label: label.trim().to_owned(),
                    ..Default::default()
                });
            }
            ("track", Some(_)) => bail!("a <track> is inside a <track>"),
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
                expression: key.expression.or(track.expression),
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
    /// Applies an attribute to the last box or to the whole track. Meaningless values are ignored.
    fn describe(&mut self, attribute: &str, value: &str, of_box: bool) {
        let key = self.keys.last_mut().filter(|_| of_box);
        let (age, gender, expression) = match key {
            Some(key) => (&mut key.age, &mut key.gender, &mut key.expression),
            None => (&mut self.age, &mut self.gender, &mut self.expression),
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
            "expression" | "emotion" => *expression = Expression::parse(value),
            _ => {}
        }
    }
}

/// The change per frame between two boxes.
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
        expression: None,
    })
}

/// The value of a required attribute.
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
        .with_context(|| format!("{what} is {shown:?}, which is not a valid number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::truth::Labelled;

    const META: &str = "<meta><task><start_frame>4</start_frame><stop_frame>40</stop_frame>\
        <frame_filter>step=2</frame_filter><original_size><width>640</width><height>360</height>\
        </original_size></task></meta>";

    fn a_box(frame: u64, outside: u8, x: f64, inner: &str) -> String {
        format!(
            "<box frame=\"{frame}\" outside=\"{outside}\" occluded=\"1\" keyframe=\"1\" xtl=\"{x}\" \
             ytl=\"20.0\" xbr=\"{}\" ybr=\"60\">{inner}</box>\n",
            x + 10.0
        )
    }

    fn document(tracks: &str) -> String {
        format!("<?xml version=\"1.0\"?>\n<annotations>{META}\n{tracks}</annotations>\n")
    }

    fn read_text(text: &str) -> Result<Truth> {
        read(text.as_bytes(), &HashMap::new())
    }

    fn at(truth: &Truth, frame: u64) -> Vec<Labelled> {
        let mut labels = Vec::new();
        truth.sweep().at(frame, &mut labels);
        labels
    }

    #[test]
    fn boxes_are_interpolated_up_to_where_they_go_outside() {
        let text = document(&format!(
            "<track id=\"0\" label=\"ann &amp; bob\">{}{}{}{}</track>",
            a_box(10, 0, 0.0, ""),
            a_box(20, 0, 50.0, ""),
            a_box(24, 1, 50.0, ""),
            a_box(30, 0, 7.0, ""),
        ));
        let truth = read_text(&text).expect("valid");
        assert_eq!(truth.people, ["ann & bob"]);
        assert_eq!((truth.first, truth.last, truth.step), (4, Some(40), 2));
        assert_eq!(truth.size, Some((640.0, 360.0)));
        assert!(truth.covers(4) && !truth.covers(5) && !truth.covers(42));
        let x = |frame| at(&truth, frame).first().map(|l| l.rect.x);
        let found = [9, 10, 13, 20, 23, 24, 29, 30, 31].map(x);
        assert_eq!(
            found,
            [
                None,
                Some(0.0),
                Some(15.0),
                Some(50.0),
                Some(50.0),
                None,
                None,
                Some(7.0),
                None
            ]
        );
        assert_eq!(at(&truth, 12)[0].rect, Rect::new(10.0, 20.0, 10.0, 40.0));
    }

    #[test]
    fn attributes_tell_name_age_gender_and_expression() {
        let about = |name: &str, age: &str, gender: &str| {
            format!(
                "<attribute name=\"Name\">{name}</attribute><attribute name=\"age\">{age}\
                 </attribute><attribute name=\"gender\"><![CDATA[{gender}]]></attribute>"
            )
        };
        let text = document(&format!(
            "<track label=\"face\">{}{}</track><track label=\"bob\">{}\
             <attribute name=\"age\">50</attribute>\
             <attribute name=\"Expression\">Happiness</attribute></track>\
             <track label=\"x\"><polygon frame=\"4\" points=\"1,2;3,4\"/></track>",
            a_box(10, 0, 0.0, &about("&#65;nn", "31", "Female")),
            a_box(11, 0, 0.0, &about("Ann", "unknown", "__undefined__")),
            a_box(10, 0, 100.0, ""),
        ));
        let truth = read_text(&text).expect("valid");
        assert_eq!(truth.people, ["Ann", "bob", "x"]);
        assert_eq!(truth.other_shapes, 1);
        let labels = at(&truth, 10);
        assert_eq!(
            (labels[0].age, labels[0].gender),
            (Some(31.0), Some(Gender::Female))
        );
        assert_eq!((labels[1].age, labels[1].gender), (Some(50.0), None));
        assert_eq!(labels[0].expression, None);
        assert_eq!(labels[1].expression, Some(Expression::Happy));
        assert_eq!(
            (at(&truth, 11)[0].age, at(&truth, 11)[0].gender),
            (None, None)
        );
    }

    #[test]
    fn broken_files_are_refused_with_the_line() {
        let track = |inner: &str| document(&format!("<track label=\"a\">\n{inner}</track>\n"));
        let good = a_box(10, 0, 0.0, "");
        for (text, what) in [
            (
                "<html></html>".to_owned(),
                "line 1: a CVAT file begins with <annotations>, not with <html>",
            ),
            (track(&good)[..300].to_owned(), "line 4: "),
            (document(""), "no labelled box"),
            (document("<image id=\"0\"></image>"), "CVAT for video 1.1"),
            (document("<track></track>"), "line 3: <track> has no label"),
            (
                document("<track label=\"\"></track>"),
                "neither label nor name",
            ),
            (
                track(&good.replace("xtl=\"0\"", "")),
                "line 4: <box> has no xtl",
            ),
            (
                track(&good.replace("\"20.0\"", "\"x\"")),
                "line 4: ytl is \"x\"",
            ),
            (
                track(&good.replace("\"20.0\"", "\"NaN\"")),
                "line 4: ytl is NaN",
            ),
            (
                track(&good.replace("\"20.0\"", "\"80\"")),
                "line 4: the box from (0, 80) to (10, 60)",
            ),
            (
                track(&good.replace("outside=\"0\"", "outside=\"2\"")),
                "outside is \"2\"",
            ),
            (
                track(&good.replace("frame=\"10\"", "frame=\"-1\"")),
                "frame is \"-1\"",
            ),
            (
                track(&good.replace("frame=\"10\"", "frame=\"99999999999\"")),
                "beyond the last",
            ),
            (
                track(&format!("{good}{good}")),
                "line 5: a box on frame 10 follows one on frame 10",
            ),
            (track(&good).replace("</track>", "</trick>"), "line 5: "),
            (
                document("<track label=\"a\"><track label=\"b\">"),
                "inside a <track>",
            ),
            (
                track(&good).replace(">40<", ">2<"),
                "stop_frame comes before",
            ),
            (
                track(&good).replace(">4<", ">four<"),
                "start_frame is \"four\"",
            ),
            (track(&good).replace(">640<", ">0<"), "original_size"),
            (
                format!("<annotations>{}", "<a>".repeat(100_000)),
                "more than 64 elements",
            ),
            (
                format!("<annotations a=\"{}\"/>", "x".repeat(3 << 20)),
                "1 MiB",
            ),
            (format!("<!--{}", "x".repeat(3 << 20)), "1 MiB"),
        ] {
            let shown: String = text.chars().take(300).collect();
            let error = format!("{:#}", read_text(&text).expect_err(&shown));
            assert!(error.contains(what), "{shown}: {error}");
        }
    }

    #[test]
    fn entities_are_not_expanded() {
        let bomb = "<!DOCTYPE a [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;\">\
                    <!ENTITY f SYSTEM \"file:///etc/passwd\">]>\n";
        for used in ["<attribute name=\"name\">&b;</attribute>", "&f;"] {
            let text = format!(
                "{bomb}<annotations>\n<track label=\"a\">{}</track></annotations>",
                a_box(1, 0, 0.0, used)
            );
            let error = format!("{:#}", read_text(&text).expect_err("an unknown entity"));
            assert!(error.contains("line 3: the entity &"), "{error}");
        }
        let text = format!("{bomb}<annotations><track label=\"&b;\"/></annotations>");
        assert!(read_text(&text).is_err());
    }

    #[test]
    fn any_cut_and_any_flipped_byte_is_survived() {
        let text = document(&format!(
            "<track label=\"a\">{}</track>",
            a_box(10, 0, 0.0, "")
        ));
        for end in 0..text.len() - 1 {
            // Only the last line break may be missing.
            assert!(
                read(&text.as_bytes()[..end], &HashMap::new()).is_err(),
                "{end}"
            );
        }
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 0x95;
            let _ = read(bytes.as_slice(), &HashMap::new());
        }
    }
}
