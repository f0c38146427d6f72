//! A video of several people whose positions give their names: three clips side by side.
//!
//! The media have only two people who move, since the other clips show one of them again. So the
//! third pane is a portrait that moves around; it is enrolled from its mirror image.

use std::path::Path;
use std::sync::LazyLock;

use face_gallery::{Gallery, ModelId, Row};
use face_meta::Face;
use face_tests::{Frame, Picture, Running, media, run_file, run_picture};
use gst::prelude::*;

const PANE: f64 = 640.0;
const PEOPLE: [&str; 3] = ["wolfgang", "selfie", "portrait"];
const PORTRAIT: &str = "0-f15-hao-ph.jpg";
const EMBED: &str = "facedetector ! facerecognizer attach-embedding=true interval=0";

/// Presentation times of the enrolled frames, by clip.
struct Enrolled {
    gallery: Gallery,
    times: [Vec<u64>; 3],
}

fn embedding(face: &Face) -> &[f32] {
    &face
        .embedding
        .as_ref()
        .expect("attach-embedding is set")
        .values
}

fn enroll() -> Enrolled {
    let (id, _) = ModelId::of("sface").expect("set up");
    let mut gallery = Gallery::new(id, 128);
    let mut times: [Vec<u64>; 3] = Default::default();
    for (person, (clip, step)) in [("WolfgangLanger_Pexels.mp4", 40), ("single_face.mp4", 12)]
        .into_iter()
        .enumerate()
    {
        for frame in run_file(clip, EMBED)
            .expect("the clip plays")
            .iter()
            .skip(6)
            .step_by(step)
        {
            let [face] = frame.faces.as_slice() else {
                continue;
            };
            let row = Row {
                person: PEOPLE[person].into(),
                source: format!("{clip} {:?}", frame.pts),
            };
            assert!(gallery.push(row, embedding(face)));
            times[person].extend(frame.pts);
        }
    }
    let mut portrait = Picture::open(PORTRAIT);
    for row in portrait.data.chunks_mut(portrait.width as usize * 3) {
        let pixels: Vec<[u8; 3]> = row
            .chunks_exact(3)
            .rev()
            .map(|p| [p[0], p[1], p[2]])
            .collect();
        row.copy_from_slice(pixels.as_flattened());
    }
    let frame = run_picture(&portrait, EMBED).expect("the picture is read");
    let row = Row {
        person: PEOPLE[2].into(),
        source: "mirrored".into(),
    };
    assert!(gallery.push(row, embedding(&frame.faces[0])));
    Enrolled { gallery, times }
}

static ENROLLED: LazyLock<Enrolled> = LazyLock::new(enroll);

impl Enrolled {
    /// The gallery without one person.
    fn without(&self, person: &str) -> Gallery {
        let mut gallery = Gallery::new(self.gallery.model.clone(), self.gallery.dimensions());
        for (i, row) in self.gallery.rows().iter().enumerate() {
            if row.person != person {
                assert!(gallery.push(row.clone(), &self.gallery.embedding(i)));
            }
        }
        gallery
    }

    /// Whether the pane at `time` shows an enrolled frame, or a neighbour of one.
    fn used(&self, pane: usize, time: u64) -> bool {
        self.times[pane]
            .iter()
            .any(|t| time.abs_diff(*t) < 60_000_000)
    }
}

/// The three clips side by side, analysed with `gallery`.
fn mosaic(gallery: &Path) -> Vec<Frame> {
    let clip = |name: &str| {
        format!(
            "filesrc location=\"{}\" ! decodebin ! videoconvert ! videoscale ! \
             video/x-raw,width=640,height=360 ! queue",
            media(name).display()
        )
    };
    let pipeline = Running::new(&format!(
        "compositor name=mix sink_0::xpos=0 sink_1::xpos=640 sink_2::xpos=1290 ! \
         video/x-raw,format=I420,width=1920,height=360,framerate=30/1 ! queue ! \
         facedetector inference-size=0 ! queue ! facetracker ! \
         facerecognizer gallery=\"{}\" ! appsink name=out sync=false \
         {} ! mix.sink_0  {} ! mix.sink_1 \
         filesrc location=\"{}\" ! jpegdec ! videoconvert ! videoscale ! \
         video/x-raw,width=360,height=360 ! imagefreeze num-buffers=590 ! \
         video/x-raw,framerate=30/1 ! queue ! mix.sink_2",
        gallery.display(),
        clip("WolfgangLanger_Pexels.mp4"),
        clip("single_face.mp4"),
        media(PORTRAIT).display(),
    ))
    .expect("a valid pipeline");
    // The portrait moves through its pane, 200 pixels in four seconds.
    let pad = pipeline
        .element("mix")
        .static_pad("sink_2")
        .expect("requested above");
    pad.add_probe(gst::PadProbeType::BUFFER, |pad, info| {
        if let Some(pts) = info.buffer().and_then(|b| b.pts()) {
            let phase = pts.nseconds() as f64 / 4e9 * std::f64::consts::TAU;
            pad.set_property("xpos", 1290 + (100.0 - 100.0 * phase.cos()) as i32);
        }
        gst::PadProbeReturn::Ok
    });
    pipeline.play().expect("the pipeline starts");
    pipeline.collect().expect("the pipeline runs to its end")
}

fn pane(face: &Face) -> usize {
    (face.rect.center().x / PANE).clamp(0.0, 2.0) as usize
}

/// Per pane, the number of detected faces, and of those with the expected name.
fn score(frames: &[Frame], expected: [&str; 3]) -> [(usize, usize); 3] {
    let mut scores = [(0, 0); 3];
    for frame in frames {
        for face in frame.faces.iter().filter(|f| !f.is_predicted()) {
            let pane = pane(face);
            if ENROLLED.used(pane, frame.pts.expect("compositor gives timestamps")) {
                continue;
            }
            let name = face.recognition.as_ref().map_or("", |r| r.name.as_str());
            scores[pane].0 += 1;
            scores[pane].1 += usize::from(name == expected[pane]);
        }
    }
    scores
}

fn write(gallery: &Gallery) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    gallery
        .write(&folder.path().join("g.safetensors"))
        .expect("writable");
    folder
}

#[test]
fn names_are_right_and_tracks_hold() {
    let folder = write(&ENROLLED.gallery);
    let frames = mosaic(&folder.path().join("g.safetensors"));
    let scores = score(&frames, PEOPLE);
    println!("{} frames; right of detected: {scores:?}", frames.len());
    let (all, right) = scores
        .iter()
        .fold((0, 0), |sum, s| (sum.0 + s.0, sum.1 + s.1));
    assert!(
        scores[0].0 > 400 && scores[1].0 > 45 && scores[2].0 > 500,
        "faces are missing"
    );
    assert!(right as f64 >= 0.99 * all as f64, "{right} of {all}");
    // Each pane shows one person without a cut: one track.
    for (place, person) in PEOPLE.iter().enumerate() {
        let mut tracks: Vec<u64> = frames
            .iter()
            .flat_map(|f| &f.faces)
            .filter(|f| pane(f) == place)
            .map(|f| f.track.expect("every face is tracked").id)
            .collect();
        tracks.dedup();
        assert_eq!(tracks.len(), 1, "{person}: tracks {tracks:?}");
    }
}

#[test]
fn people_who_are_not_in_the_gallery_are_unknown() {
    for (left_out, person) in PEOPLE.into_iter().enumerate() {
        let folder = write(&ENROLLED.without(person));
        let frames = mosaic(&folder.path().join("g.safetensors"));
        let mut expected = PEOPLE;
        expected[left_out] = "Unknown";
        let scores = score(&frames, expected);
        println!("without {person}: right of detected {scores:?}");
        let (all, unknown) = scores[left_out];
        assert!(
            all > 45 && unknown as f64 >= 0.97 * all as f64,
            "{person}: {unknown} of {all}"
        );
        let (all, right) = scores
            .iter()
            .fold((0, 0), |sum, s| (sum.0 + s.0, sum.1 + s.1));
        assert!(right as f64 >= 0.99 * all as f64, "{right} of {all}");
    }
}

#[test]
fn no_face_where_there_is_none() {
    let elements = "facedetector ! facetracker";
    let frames = run_file("no_face.mp4", elements).expect("the clip plays");
    assert!(frames.len() >= 90 && frames.iter().all(|f| f.faces.is_empty()));

    // A face on frames 0 to 71, then a hard cut to a title.
    let frames = run_file("face_noface.mov", elements).expect("the clip plays");
    let detected = |f: &Frame| f.faces.iter().filter(|f| !f.is_predicted()).count();
    assert!(frames[..72].iter().all(|f| detected(f) == 1));
    assert!(frames[72..].iter().all(|f| detected(f) == 0));
    let last = frames[71].pts.expect("a timestamp");
    for frame in &frames[72..] {
        let since = frame.pts.expect("a timestamp") - last;
        assert!(
            frame.faces.is_empty() || since <= 250_000_000,
            "still there after {since} ns"
        );
    }
}
