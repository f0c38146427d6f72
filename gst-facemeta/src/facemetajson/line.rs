//! The lines: what is printed of a frame and of a track.

use face_core::meta::Face;
use serde::Serialize;

/// One line. The order of the fields is the order of the keys.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Line<'a> {
    Frame {
        /// Counts the frames from 0.
        frame: u64,
        pts: Option<u64>,
        width: u32,
        height: u32,
        faces: Vec<FaceLine<'a>>,
    },
    Track {
        track: u64,
        first_pts: Option<u64>,
        last_pts: Option<u64>,
        /// Frames on which the face was detected.
        frames: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        name_confidence: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        age: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        gender: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        gender_confidence: Option<f64>,
    },
}

/// A face of a frame.
#[derive(Debug, Serialize)]
pub struct FaceLine<'a> {
    r#box: [f64; 4],
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    landmarks: Option<[[f64; 2]; 5]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    track: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    predicted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_confidence: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    distance: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gender: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gender_confidence: Option<f64>,
}

/// To one decimal: pixels and years.
pub fn tenths(value: f64) -> f64 {
    rounded(value, 10.0)
}

/// To four decimals: shares and distances.
pub fn fine(value: f64) -> f64 {
    rounded(value, 10_000.0)
}

fn rounded(value: f64, steps: f64) -> f64 {
    let rounded = (value * steps).round() / steps;
    // No minus before a zero; what is too large to be scaled has no decimals.
    if rounded.is_finite() {
        rounded + 0.0
    } else {
        value
    }
}

impl<'a> From<&'a Face> for FaceLine<'a> {
    fn from(face: &'a Face) -> Self {
        let rect = &face.rect;
        let recognition = face.recognition.as_ref();
        let gender = face.gender.as_ref();
        Self {
            r#box: [rect.x, rect.y, rect.w, rect.h].map(tenths),
            confidence: face.confidence.map(fine),
            landmarks: face
                .landmarks
                .map(|points| points.map(|p| [tenths(p.x), tenths(p.y)])),
            track: face.track.map(|t| t.id),
            predicted: face.is_predicted(),
            name: recognition.map(|r| r.name.as_str()),
            name_confidence: recognition.map(|r| fine(r.confidence)),
            distance: recognition.map(|r| fine(r.distance)),
            age: face.age.map(tenths),
            gender: gender.map(|g| g.label.as_str()),
            gender_confidence: gender.map(|g| fine(g.confidence)),
        }
    }
}

impl Line<'_> {
    /// The line with its newline.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use face_core::geometry::{Point, Rect};
    use face_core::meta::{Embedding, Gender, Recognition, Track};

    use super::*;

    fn print(faces: &[Face]) -> String {
        let line = Line::Frame {
            frame: 12,
            pts: None,
            width: 640,
            height: 360,
            faces: faces.iter().map(FaceLine::from).collect(),
        };
        String::from_utf8(line.to_bytes().expect("serialises")).expect("is UTF-8")
    }

    #[test]
    fn keys_without_a_writer_are_absent() {
        let face = Face {
            rect: Rect::new(-0.04, 1.26, 10.0, 20.04),
            ..Default::default()
        };
        assert_eq!(
            print(&[face]),
            "{\"type\":\"frame\",\"frame\":12,\"pts\":null,\"width\":640,\"height\":360,\
             \"faces\":[{\"box\":[0.0,1.3,10.0,20.0]}]}\n"
        );
    }

    #[test]
    fn all_keys_in_their_order() {
        let face = Face {
            id: 1,
            rect: Rect::new(1.0, 2.0, 3.0, 4.0),
            landmarks: Some([1.0, 2.0, 3.0, 4.0, 5.0].map(|v| Point::new(v, v + 0.55))),
            confidence: Some(0.912_345_6),
            model: Some("yunet".into()),
            track: Some(Track {
                id: u64::MAX,
                first_seen: 0,
                predicted: true,
            }),
            recognition: Some(Recognition {
                name: "a \"b\"\n\\ é\u{1}".into(),
                confidence: 2.0 / 3.0,
                distance: 0.4,
            }),
            age: Some(27.449),
            gender: Some(Gender {
                label: "female".into(),
                confidence: 1.0,
            }),
            embedding: Some(Embedding {
                model: "sface".into(),
                values: vec![1.0; 128],
            }),
        };
        assert_eq!(
            print(&[face]),
            concat!(
                r#"{"type":"frame","frame":12,"pts":null,"width":640,"height":360,"faces":[{"#,
                r#""box":[1.0,2.0,3.0,4.0],"confidence":0.9123,"#,
                r#""landmarks":[[1.0,1.6],[2.0,2.6],[3.0,3.6],[4.0,4.6],[5.0,5.6]],"#,
                r#""track":18446744073709551615,"predicted":true,"#,
                r#""name":"a \"b\"\n\\ é\u0001","name_confidence":0.6667,"distance":0.4,"#,
                r#""age":27.4,"gender":"female","gender_confidence":1.0}]}"#,
                "\n"
            )
        );
    }

    #[test]
    fn numbers_that_json_lacks_are_null() {
        let face = Face {
            rect: Rect::new(f64::NAN, f64::MAX, f64::INFINITY, 0.0),
            ..Default::default()
        };
        let text = print(&[face]);
        let value: serde_json::Value = serde_json::from_str(&text).expect("is JSON");
        assert_eq!(value["faces"][0]["box"][0], serde_json::Value::Null);
        assert_eq!(value["faces"][0]["box"][1], f64::MAX);
    }
}
