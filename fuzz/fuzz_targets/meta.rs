//! Metadata as other plugins may leave it: regions with any id and rectangle, and anything under
//! our names. Tests first the functions that read and write it, then the elements.
#![no_main]

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Once;

use arbitrary::{Arbitrary, Unstructured};
use face_meta::META_NAME;
use gst::meta::CustomMeta;
use gst_check::Harness;
use gst_video::VideoRegionOfInterestMeta;
use libfuzzer_sys::fuzz_target;

const SIZE: (u32, u32) = (64, 48);
const CAPS: &str = "video/x-raw, format=GRAY8, width=64, height=48, framerate=25/1";

/// More would only take longer.
const MOST: usize = 60;

#[derive(Debug, Arbitrary)]
enum Number {
    Small(i8),
    Any(f64),
    Whole(u64),
    Special(u8),
}

impl Number {
    fn get(&self) -> f64 {
        match *self {
            Self::Small(v) => f64::from(v) / 16.0,
            Self::Any(v) => v,
            Self::Whole(v) => v as f64,
            Self::Special(v) => {
                [f64::NAN, f64::INFINITY, f64::MIN, f64::MAX, 1e-310, -0.0][usize::from(v) % 6]
            }
        }
    }
}

#[derive(Debug, Arbitrary)]
enum Value<'a> {
    Double(Number),
    Int(i32),
    Unsigned(u64),
    Bool(bool),
    Text(&'a str),
    Numbers(Vec<Number>),
    Texts(Vec<&'a str>),
    Bytes(&'a [u8]),
    Structure,
}

#[derive(Debug, Arbitrary)]
struct Region {
    face: bool,
    id: Id,
    rect: [Side; 4],
}

#[derive(Debug, Arbitrary)]
enum Side {
    Small(u8),
    Any(u32),
}

#[derive(Debug, Arbitrary)]
enum Id {
    Small(i8),
    Any(i32),
    Last,
}

impl Id {
    fn get(&self) -> i32 {
        match *self {
            Self::Small(id) => id.into(),
            Self::Any(id) => id,
            Self::Last => i32::MAX,
        }
    }
}

#[derive(Debug, Arbitrary)]
struct Frame<'a> {
    pts: Option<u64>,
    examined: Option<Value<'a>>,
    regions: Vec<Region>,
    entries: Vec<(Id, Vec<(u8, Value<'a>)>)>,
    /// Anything that GStreamer parses as a structure.
    text: &'a str,
}

const FIELDS: [&str; 15] = [
    "box",
    "landmarks",
    "confidence",
    "model",
    "track",
    "first-seen",
    "predicted",
    "name",
    "name-confidence",
    "distance",
    "age",
    "gender",
    "gender-confidence",
    "embedding",
    "embedding-model",
];

fn set(structure: &mut gst::StructureRef, name: &str, value: &Value) {
    match value {
        Value::Double(v) => structure.set(name, v.get()),
        Value::Int(v) => structure.set(name, *v),
        Value::Unsigned(v) => structure.set(name, *v),
        Value::Bool(v) => structure.set(name, *v),
        Value::Text(v) => structure.set(name, v.replace('\0', "")),
        Value::Numbers(v) => structure.set(name, gst::Array::new(v.iter().map(Number::get))),
        Value::Texts(v) => {
            structure.set(name, gst::Array::new(v.iter().map(|t| t.replace('\0', ""))));
        }
        Value::Bytes(v) => structure.set(name, glib::Bytes::from(*v)),
        Value::Structure => structure.set(name, gst::Structure::new_empty("box")),
    }
}

fn buffer(frame: &Frame) -> gst::Buffer {
    let mut buffer = gst::Buffer::with_size((SIZE.0 * SIZE.1) as usize).expect("memory");
    let target = buffer.get_mut().expect("a new buffer is writable");
    // `u64::MAX` is not a valid time.
    target.set_pts(frame.pts.and_then(|t| gst::ClockTime::try_from(t).ok()));
    for region in frame.regions.iter().take(MOST) {
        let [x, y, w, h] = [0, 1, 2, 3].map(|i| match region.rect[i] {
            Side::Small(v) => v.into(),
            Side::Any(v) => v,
        });
        let kind = if region.face {
            face_meta::ROI_TYPE
        } else {
            "car"
        };
        VideoRegionOfInterestMeta::add(target, kind, (x, y, w, h)).set_id(region.id.get());
    }
    face_meta::register();
    let mut custom = CustomMeta::add(target, META_NAME).expect("registered");
    let structure = custom.mut_structure();
    for (id, fields) in frame.entries.iter().take(MOST) {
        let name = format!("face-{}", id.get());
        let mut entry = gst::Structure::new_empty(&name);
        for (field, value) in fields {
            set(
                &mut entry,
                FIELDS[usize::from(*field) % FIELDS.len()],
                value,
            );
        }
        structure.set(name, entry);
    }
    if !frame.text.contains('\0')
        && let Ok(found) = frame.text.parse::<gst::Structure>()
    {
        for (i, (name, value)) in found.iter().take(MOST).enumerate() {
            structure.set_value(name, value.clone());
            // Structures cannot always be nested in text.
            structure.set(format!("face-{i}"), &found);
        }
    }
    if let Some(value) = &frame.examined {
        set(structure, "examined", value);
    }
    buffer
}

fn read_and_write(buffer: &mut gst::BufferRef) {
    face_meta::examined(buffer);
    face_meta::read(buffer);
    let faces = face_meta::claim(buffer);
    let ids: HashSet<i32> = faces.iter().map(|f| f.id).collect();
    assert!(ids.len() == faces.len() && ids.iter().all(|id| *id > 0));
    assert_eq!(
        format!("{faces:?}"),
        format!("{:?}", face_meta::claim(buffer))
    );
    face_meta::update(buffer, &faces);
    let again = face_meta::read(buffer);
    assert_eq!(faces.len(), again.len());
    for (before, after) in faces.iter().zip(&again) {
        assert_eq!(
            (before.id, &before.recognition),
            (after.id, &after.recognition)
        );
        assert_eq!(
            (before.track, &before.embedding),
            (after.track, &after.embedding)
        );
    }
    for face in faces.iter().take(3) {
        if let Some(id) = face_meta::add(buffer, SIZE, face) {
            assert!(!ids.contains(&id));
        }
    }
    face_meta::set_examined(buffer, true);
    assert_eq!(face_meta::examined(buffer), Some(true));
}

struct Elements {
    lines: Harness,
    pictures: [Harness; 2],
}

impl Elements {
    fn new() -> Self {
        static INIT: Once = Once::new();
        INIT.call_once(|| {
            gst::init().expect("GStreamer starts");
            gstfacetrack::plugin_register_static().expect("the plugin registers");
            gstfacemeta::plugin_register_static().expect("the plugin registers");
        });
        let harness = |line: &str| {
            let mut harness = Harness::new_parse(line);
            harness.set_src_caps(CAPS.parse().expect("is caps"));
            harness
        };
        Self {
            lines: harness("facetracker ! facemetajson"),
            pictures: [
                harness("facetracker algorithm=bytetrack ! facemetaoverlay show-landmarks=true"),
                harness("facemetablur target=all-but-named hold=100 look-back=40"),
            ],
        }
    }

    fn push(&mut self, buffer: &gst::Buffer) {
        self.lines.push(buffer.copy()).expect("lines are written");
        while let Some(line) = self.lines.try_pull() {
            let map = line.map_readable().expect("maps");
            let line = str::from_utf8(&map).expect("UTF-8");
            assert!(line.starts_with('{') && line.ends_with("}\n"));
        }
        for harness in &mut self.pictures {
            harness.push(buffer.copy()).expect("pictures pass");
            while harness.try_pull().is_some() {}
        }
    }
}

thread_local! {
    static ELEMENTS: RefCell<Elements> = RefCell::new(Elements::new());
}

fuzz_target!(|data: &[u8]| {
    let mut data = Unstructured::new(data);
    ELEMENTS.with_borrow_mut(|elements| {
        // Two consecutive frames, so that tracks may continue.
        for _ in 0..2 {
            let Ok(frame) = Frame::arbitrary(&mut data) else {
                return;
            };
            let mut buffer = buffer(&frame);
            elements.push(&buffer);
            read_and_write(buffer.make_mut());
            elements.push(&buffer);
        }
    });
});
