//! Measures whether variations of a photo (`enroll --augment`) help. People are enrolled from one
//! photo or one frame, and recognised on other frames, both unchanged and degraded. Prints the
//! tables:
//!
//!     cargo test --release -p facepipe --test main augment -- --nocapture

use std::collections::BTreeMap;
use std::path::PathBuf;

use face_gallery::Gallery;
use face_gallery::vote::{Rule, who};
use gst::prelude::*;
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use tempfile::TempDir;

use crate::common::{facepipe, media, run, stderr};

/// The numbers of variations to compare.
const COUNTS: [usize; 5] = [0, 1, 2, 4, 8];

/// A limit that is the same for all galleries, to compare them.
const RULE: Rule = Rule {
    false_name_rate: 0.001,
    distance_threshold: Some(THRESHOLD),
    strangers: None,
    fallback: THRESHOLD,
};
const THRESHOLD: f64 = 0.637;

/// Photos of one person each, and the faces in two group photos: x, y, width, height.
const PORTRAITS: [&str; 6] = [
    "0-f1-su-ph.jpg",
    "0-f15-hao-ph.jpg",
    "15-f13-anc-ph.jpg",
    "45-m7-di-ph.jpg",
    "Image_with_alpha.png",
    "Tom_Hanks_54745.png",
];
const GROUPS: [(&str, &[[u32; 4]]); 2] = [("t1.jpg", &T1), ("multi_face.jpg", &MULTI)];
const T1: [[u32; 4]; 6] = [
    [463, 266, 113, 150],
    [751, 346, 94, 126],
    [1132, 274, 95, 124],
    [899, 57, 106, 140],
    [271, 147, 99, 129],
    [52, 266, 118, 133],
];
const MULTI: [[u32; 4]; 5] = [
    [531, 305, 100, 132],
    [686, 289, 103, 135],
    [434, 219, 80, 95],
    [314, 236, 95, 123],
    [216, 62, 90, 114],
];

/// The clips of the two people who move: one of her, three of him.
const HER: &str = "WolfgangLanger_Pexels.mp4";
const HIM: [&str; 3] = ["single_face.mp4", "face_noface.mov", "noface_face.mov"];
const MOVING: [&str; 2] = ["her", "him"];

/// One in `step` frames of a clip, with its number.
fn frames(clip: &str, step: usize) -> Vec<(usize, RgbImage)> {
    gst::init().expect("GStreamer starts");
    let pipeline = gst::parse::launch(&format!(
        "filesrc location=\"{}\" ! decodebin ! videoconvert ! video/x-raw,format=RGB \
         ! appsink name=s sync=false",
        media(clip).display()
    ))
    .expect("a valid pipeline")
    .downcast::<gst::Pipeline>()
    .expect("several elements");
    let sink = pipeline
        .by_name("s")
        .and_downcast::<gst_app::AppSink>()
        .expect("the sink");
    pipeline.set_state(gst::State::Playing).expect("starts");
    let mut frames = Vec::new();
    let mut number = 0;
    while let Ok(sample) = sink.pull_sample() {
        if number % step == 0 {
            let info = gst_video::VideoInfo::from_caps(sample.caps().expect("caps")).expect("raw");
            let buffer = sample.buffer().expect("a frame");
            let map = buffer.map_readable().expect("readable");
            let (width, height) = (info.width() as usize, info.height() as usize);
            let rows = map.chunks(info.stride()[0] as usize).take(height);
            let pixels = rows.flat_map(|row| &row[..3 * width]).copied().collect();
            let image = RgbImage::from_raw(info.width(), info.height(), pixels);
            frames.push((number, image.expect("whole rows")));
        }
        number += 1;
    }
    pipeline.set_state(gst::State::Null).expect("stops");
    frames
}

/// How frames are degraded. Her face is about 210 pixels wide, his about 190.
const CONDITIONS: [&str; 4] = ["as it is", "small", "dark", "blurred"];

fn spoil(image: &RgbImage, condition: &str) -> RgbImage {
    let (width, height) = image.dimensions();
    match condition {
        // A face of about 25 pixels.
        "small" => {
            let few = imageops::resize(image, width / 8, height / 8, FilterType::Triangle);
            imageops::resize(&few, width, height, FilterType::Triangle)
        }
        // Three stops less light, with the resulting noise.
        "dark" => {
            let mut state = 1u32;
            let mut dark = image.clone();
            for Rgb(pixel) in dark.pixels_mut() {
                *pixel = pixel.map(|v| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (f64::from(v) / 8.0 + f64::from(state >> 24) / 32.0 - 4.0).round() as u8
                });
            }
            dark
        }
        // Three pixels of an aligned face.
        "blurred" => imageops::blur(image, 6.0),
        _ => image.clone(),
    }
}

struct People(TempDir);

impl People {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self, people: &str, person: &str, name: &str) -> PathBuf {
        let folder = self.0.path().join(people).join(person);
        std::fs::create_dir_all(&folder).expect("writable");
        folder.join(name)
    }

    fn add(&self, people: &str, person: &str, name: &str, image: &RgbImage) {
        let path = self.path(people, person, name);
        image.save(path).expect("writable");
    }

    fn enroll(&self, people: &str, augment: usize) -> Gallery {
        let gallery = self.0.path().join(format!("{people}.safetensors"));
        let output = run(facepipe()
            .arg("enroll")
            .arg(self.0.path().join(people))
            .arg("-o")
            .arg(&gallery)
            .args(["--augment", &augment.to_string()]));
        // Some degraded faces are not even detected.
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 3)), "{}", stderr(&output));
        Gallery::read(&gallery).expect("just written")
    }
}

/// Everybody, embedded once: the rows to enroll, with variations, and the faces to recognise.
struct Embedded {
    known: Gallery,
    /// By condition.
    seen: Vec<Gallery>,
    /// The number of input frames by condition and moving person.
    given: BTreeMap<&'static str, usize>,
}

fn embed() -> Embedded {
    let people = People::new();
    for photo in PORTRAITS {
        let path = people.path("known", photo, photo);
        std::fs::copy(media(photo), path).expect("writable");
    }
    for (photo, faces) in GROUPS {
        let group = image::open(media(photo)).expect("a photo").into_rgb8();
        for (i, &[x, y, w, h]) in faces.iter().enumerate() {
            let (left, top) = (x.saturating_sub(w / 4), y.saturating_sub(h / 4));
            let face = imageops::crop_imm(&group, left, top, w + w / 2, h + h / 2).to_image();
            people.add("known", &format!("{photo} {i}"), "face.png", &face);
        }
    }
    let path = people.path("known", "him", "photo.jpg");
    std::fs::copy(media("single_face.jpg"), path).expect("writable");
    let mut given = BTreeMap::new();
    let mut see = |person: &'static str, clip: &str, number: usize, image: &RgbImage| {
        *given.entry(person).or_default() += 1;
        for condition in CONDITIONS {
            let name = format!("{clip} {number:04}.png");
            people.add(condition, person, &name, &spoil(image, condition));
        }
    };
    for (number, image) in frames(HER, 12) {
        if number % 60 == 0 {
            people.add("known", "her", &format!("{HER} {number:04}.png"), &image);
        }
        see("her", HER, number, &image);
    }
    for clip in HIM {
        for (number, image) in frames(clip, 6) {
            // The part of the other two clips that shows him.
            let shown = match clip {
                "face_noface.mov" => number < 60,
                "noface_face.mov" => number > 110,
                _ => true,
            };
            if clip == HIM[0] && number % 24 == 0 {
                people.add("known", "him", &format!("{clip} {number:04}.png"), &image);
            }
            if shown {
                see("him", clip, number, &image);
            }
        }
    }
    let most = COUNTS.into_iter().max().unwrap_or(0);
    Embedded {
        known: people.enroll("known", most),
        seen: CONDITIONS
            .iter()
            .map(|condition| people.enroll(condition, 0))
            .collect(),
        given,
    }
}

/// The clip (or photo) and number of a frame.
fn frame(source: &str) -> (&str, usize) {
    let name = source.rsplit('/').next().unwrap_or(source);
    let name = name.trim_end_matches(".png");
    match name.rsplit_once(' ') {
        Some((clip, number)) => (clip, number.parse().unwrap_or(0)),
        None => (name, 0),
    }
}

/// The person nearest to a face, whether that is right, and the cosine distance.
struct Answer {
    right: bool,
    distance: f64,
}

/// The percentage within the threshold.
fn within<T>(all: &[T], threshold: f64, distance: impl Fn(&T) -> Option<f64>) -> f64 {
    let counted = |item: &&T| distance(item).is_some_and(|d| d <= threshold);
    100.0 * all.iter().filter(counted).count() as f64 / all.len() as f64
}

impl Embedded {
    /// Images of a person in `known`, as their first rows.
    fn images(&self, person: &str) -> Vec<usize> {
        (0..self.known.len())
            .filter(|&row| self.known.image_of(row) == row && self.known.row(row).person == person)
            .collect()
    }

    /// All still people, and these images, with `count` variations each.
    fn gallery(&self, images: &[usize], without: Option<&str>, count: usize) -> Gallery {
        let mut gallery = Gallery::new(self.known.model.clone(), self.known.dimensions());
        for row in 0..self.known.len() {
            let image = self.known.image_of(row);
            let person = self.known.row(row).person;
            let is_in = images.contains(&image) || !MOVING.contains(&person.as_str());
            if is_in && row - image <= count && Some(person.as_str()) != without {
                assert!(gallery.push_row(&self.known, row, &person));
            }
        }
        gallery
    }

    /// The frames of `person`, except those close to the enrolled ones.
    fn frames(&self, condition: usize, person: &str, enrolled: &[usize]) -> Vec<Vec<f32>> {
        let seen = &self.seen[condition];
        let is_asked = |row: &usize| {
            let query = seen.row(*row);
            let (clip, number) = frame(&query.source);
            let is_near = |image: &usize| {
                let source = self.known.row(*image).source;
                let (other, at) = frame(&source);
                // His three clips show one scene.
                let same_scene = HIM.contains(&other) && HIM.contains(&clip);
                same_scene || (other == clip && at.abs_diff(number) < 24)
            };
            query.person == person && !enrolled.iter().any(is_near)
        };
        let rows = (0..seen.len()).filter(is_asked);
        rows.map(|row| seen.embedding(row).into_owned()).collect()
    }

    /// Recognises the moving people, each enrolled from one image, for all such images.
    fn recognised(&self, condition: usize, count: usize) -> Vec<Answer> {
        let mut answers = Vec::new();
        for (person, other) in [("her", "him"), ("him", "her")] {
            let other = self.images(other)[0];
            for image in self.images(person) {
                let gallery = self.gallery(&[image, other], None, count);
                for query in self.frames(condition, person, &[image]) {
                    let nearest = gallery.nearest_images(&query, 1)[0];
                    let right = gallery.person_name(nearest.person) == person;
                    let verdict = name(&gallery, &query);
                    // With one image per person, the score is the distance.
                    assert_eq!(verdict.is_some(), nearest.distance <= THRESHOLD);
                    answers.push(Answer {
                        right,
                        distance: nearest.distance,
                    });
                }
            }
        }
        answers
    }

    /// The moving people under one condition, and all still people as strangers: the distances to
    /// all others, nearest first.
    fn strangers(&self, condition: usize, count: usize) -> Vec<Vec<f64>> {
        let mut all = Vec::new();
        let mut ask = |gallery: &Gallery, query: &[f32]| {
            let nearest = gallery.nearest_images(query, gallery.len());
            all.push(nearest.iter().map(|n| n.distance).collect());
        };
        for (person, other) in [("her", "him"), ("him", "her")] {
            let gallery = self.gallery(&[self.images(other)[0]], None, count);
            for query in self.frames(condition, person, &[]) {
                ask(&gallery, &query);
            }
        }
        let moving = MOVING.map(|person| self.images(person)[0]);
        for person in self.known.people() {
            if condition == 0 && !MOVING.contains(&person.as_str()) {
                let gallery = self.gallery(&moving, Some(person), count);
                ask(&gallery, &self.known.embedding(self.images(person)[0]));
            }
        }
        all
    }
}

fn name(gallery: &Gallery, query: &[f32]) -> Option<String> {
    who(gallery, query, &RULE).person
}

fn cells(numbers: impl Iterator<Item = f64>) -> String {
    numbers.map(|n| format!("{n:>9.1}")).collect()
}

#[test]
fn variations_of_one_photo() {
    let embedded = embed();
    for (condition, seen) in CONDITIONS.iter().zip(&embedded.seen) {
        let found = MOVING.map(|person| {
            let rows = seen.rows();
            let found = rows.iter().filter(|row| row.person == *person).count();
            format!("{person} {found} of {}", embedded.given[person])
        });
        println!("faces found, {condition}: {}", found.join(", "));
    }
    let heads: String = CONDITIONS.iter().map(|c| format!("{c:>9}")).collect();
    let conditions = 0..CONDITIONS.len();
    let measured: Vec<_> = COUNTS
        .iter()
        .map(|&count| {
            let right: Vec<_> = conditions
                .clone()
                .map(|c| embedded.recognised(c, count))
                .collect();
            let strangers: Vec<_> = conditions
                .clone()
                .map(|c| embedded.strangers(c, count))
                .collect();
            (count, right, strangers)
        })
        .collect();

    println!("\n% recognised, and % of strangers named, at distance {THRESHOLD}");
    println!(" N |{heads} |{heads}");
    let is_right = |answer: &Answer| answer.right.then_some(answer.distance);
    let nearest = |distances: &Vec<f64>| distances.first().copied();
    for (count, right, strangers) in &measured {
        println!(
            "{count:2} |{} |{}",
            cells(right.iter().map(|r| within(r, THRESHOLD, is_right))),
            cells(strangers.iter().map(|s| within(s, THRESHOLD, nearest)))
        );
    }

    for share in [0.1, 0.5, 2.0] {
        println!(
            "\n% recognised where {share} % of all pairs of stranger and person are taken for one"
        );
        println!(" N | distance |{heads} |      mean");
        for (count, right, strangers) in &measured {
            let mut pairs: Vec<f64> = strangers.iter().flatten().flatten().copied().collect();
            pairs.sort_by(f64::total_cmp);
            let threshold = pairs[(share / 100.0 * pairs.len() as f64) as usize];
            let recalls: Vec<f64> = right
                .iter()
                .map(|r| within(r, threshold, is_right))
                .collect();
            let mean = recalls.iter().sum::<f64>() / recalls.len() as f64;
            println!(
                "{count:2} |    {threshold:.3} |{} |{mean:>10.1}",
                cells(recalls.into_iter())
            );
        }
    }

    println!("\n% recognised of her, by the number of images, at distance {THRESHOLD}");
    println!("images  N |{heads}");
    let images = embedded.images("her");
    let mut by_images = Vec::new();
    for number in [1, 2, 3, 5] {
        for count in [0, 4] {
            let mut scores = [(0usize, 0u32); CONDITIONS.len()];
            for first in 0..images.len() {
                let enrolled: Vec<usize> = (0..number)
                    .map(|i| images[(first + i * images.len() / number) % images.len()])
                    .collect();
                let gallery = embedded.gallery(&enrolled, None, count);
                for (condition, (right, asked)) in scores.iter_mut().enumerate() {
                    for query in embedded.frames(condition, "her", &enrolled) {
                        *right += usize::from(name(&gallery, &query).as_deref() == Some("her"));
                        *asked += 1;
                    }
                }
            }
            let recalls = scores.map(|(right, asked)| 100.0 * right as f64 / f64::from(asked));
            println!("{number:6} {count:2} |{}", cells(recalls.into_iter()));
            by_images.push(recalls);
        }
    }

    // These hold by a wide margin: variations find more of the degraded faces, at the cost of
    // naming strangers.
    let all = |(_, right, _): &(usize, Vec<Vec<Answer>>, _)| -> f64 {
        right[1..]
            .iter()
            .map(|r| within(r, THRESHOLD, is_right))
            .sum()
    };
    assert!(
        all(&measured[4]) > all(&measured[0]),
        "8 variations and none"
    );
    assert!(within(&measured[0].1[0], THRESHOLD, is_right) > 90.0);
}
