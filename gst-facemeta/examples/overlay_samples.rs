//! Draws some faces with `facemetaoverlay`, at several sizes. Writes PNG files into the given
//! directory.

use face_meta::geometry::{Point, Rect};
use face_meta::{Face, Gender, Recognition, Track};
use gst::prelude::*;

struct Sample {
    rect: (f64, f64, f64, f64),
    name: &'static str,
    age: f64,
    gender: &'static str,
    predicted: bool,
}

/// In frames of 1x1.
const SAMPLES: [Sample; 9] = [
    Sample {
        rect: (0.06, 0.22, 0.13, 0.28),
        name: "penny",
        age: 27.4,
        gender: "female",
        predicted: false,
    },
    Sample {
        rect: (0.23, 0.30, 0.12, 0.26),
        name: "sheldon",
        age: 31.0,
        gender: "male",
        predicted: false,
    },
    Sample {
        rect: (0.40, 0.02, 0.11, 0.25),
        name: "Unknown",
        age: 44.0,
        gender: "male",
        predicted: false,
    },
    Sample {
        rect: (0.57, 0.35, 0.14, 0.30),
        name: "amy",
        age: 29.0,
        gender: "female",
        predicted: true,
    },
    Sample {
        rect: (0.88, 0.10, 0.20, 0.35),
        name: "Bartholomew Featherstonehaugh-Cholmondeley",
        age: 61.0,
        gender: "male",
        predicted: false,
    },
    Sample {
        rect: (0.05, 0.70, 0.12, 0.26),
        name: "שרה <כהן>",
        age: 8.0,
        gender: "female",
        predicted: false,
    },
    Sample {
        rect: (0.28, 0.66, 0.05, 0.10),
        name: "raj",
        age: 30.0,
        gender: "male",
        predicted: false,
    },
    Sample {
        rect: (0.34, 0.68, 0.05, 0.10),
        name: "howard & co",
        age: 33.0,
        gender: "male",
        predicted: false,
    },
    Sample {
        rect: (0.45, 0.66, 0.045, 0.09),
        name: "",
        age: f64::NAN,
        gender: "",
        predicted: false,
    },
];

fn faces(width: f64, height: f64) -> Vec<Face> {
    let make = |(i, sample): (usize, &Sample)| {
        let (x, y, w, h) = sample.rect;
        let rect = Rect::new(x * width, y * height, w * width, h * height);
        let at = |x: f64, y: f64| Point::new(rect.x + x * rect.w, rect.y + y * rect.h);
        let known = !sample.name.is_empty();
        Face {
            rect,
            landmarks: Some([
                at(0.31, 0.40),
                at(0.69, 0.41),
                at(0.5, 0.6),
                at(0.35, 0.77),
                at(0.65, 0.78),
            ]),
            confidence: Some(0.91),
            track: known.then_some(Track {
                id: i as u64 + 1,
                first_seen: 0,
                predicted: sample.predicted,
            }),
            recognition: known.then(|| Recognition {
                name: sample.name.into(),
                confidence: 0.83,
                distance: 0.41,
            }),
            age: Some(sample.age).filter(|a| a.is_finite()),
            gender: known.then(|| Gender {
                label: sample.gender.into(),
                confidence: 0.99,
            }),
            ..Default::default()
        }
    };
    SAMPLES.iter().enumerate().map(make).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args()
        .nth(1)
        .ok_or("usage: overlay_samples DIRECTORY")?;
    gst::init()?;
    gstfacemeta::plugin_register_static()?;
    for (width, height, pattern) in [
        (320, 240, "smpte"),
        (640, 360, "ball"),
        (1280, 720, "smpte"),
        (720, 1280, "snow"),
        (3840, 2160, "gradient"),
    ] {
        let path = format!("{directory}/overlay-{width}x{height}.png");
        let pipeline = gst::parse::launch(&format!(
            "videotestsrc num-buffers=1 pattern={pattern} ! \
             video/x-raw,format=I420,width={width},height={height} ! \
             facemetaoverlay name=overlay ! videoconvert ! pngenc ! filesink location={path}"
        ))?
        .downcast::<gst::Pipeline>()
        .map_err(|_| "not a pipeline")?;
        let pad = pipeline
            .by_name("overlay")
            .and_then(|overlay| overlay.static_pad("sink"))
            .ok_or("no overlay")?;
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if let Some(buffer) = info.buffer_mut() {
                for face in faces(width.into(), height.into()) {
                    face_meta::add(buffer.make_mut(), (width as u32, height as u32), &face);
                }
            }
            gst::PadProbeReturn::Ok
        });
        pipeline.set_state(gst::State::Playing)?;
        let bus = pipeline.bus().ok_or("no bus")?;
        let end = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = bus.timed_pop_filtered(gst::ClockTime::NONE, &end);
        pipeline.set_state(gst::State::Null)?;
        match message.as_ref().map(|m| m.view()) {
            Some(gst::MessageView::Error(error)) => return Err(error.error().into()),
            _ => println!("{path}"),
        }
    }
    Ok(())
}
