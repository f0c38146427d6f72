//! Faces and tracks as JSON lines, the format that `facemetajson` writes.

mod tally;
mod times;

use serde::{Deserialize, Serialize};

use crate::Gender;
pub use tally::Tally;
pub use times::Times;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Line {
    Frame(Frame),
    Track(Track),
}

/// The faces of one frame. The fields are in the order of the keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// Counted from 0.
    pub frame: u64,
    /// The buffer's own presentation time, in nanoseconds.
    pub pts: Option<u64>,
    /// What a player shows: the time after edit lists and trims, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_time: Option<u64>,
    /// Size of the picture, in pixels.
    pub width: u32,
    pub height: u32,
    pub faces: Vec<Face>,
}

/// One face on one frame. Keys are absent where nothing is known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Face {
    /// x, y, width, height in pixels, to one decimal place.
    pub r#box: [f64; 4],
    /// 0..=1. All confidences and distances have four decimal places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// x, y in pixels of the subject's right eye, left eye, nose tip, right and left mouth corner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landmarks: Option<[[f64; 2]; 5]>,
    /// Yaw, pitch, roll in degrees, to one decimal place; see [`crate::Pose`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pose: Option<[f64; 3]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub predicted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_confidence: Option<f64>,
    /// Cosine distance to the nearest gallery row of that person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distance: Option<f64>,
    /// 0..=1; see [`crate::Quality`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharpness: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brightness: Option<f64>,
    /// Years, to one decimal place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gender: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gender_confidence: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression_confidence: Option<f64>,
}

/// One whole track.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Track {
    pub track: u64,
    /// Presentation times of the first and the last frame on which the face was detected, in nanoseconds.
    pub first_pts: Option<u64>,
    pub last_pts: Option<u64>,
    /// The same as a player shows them, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_stream_time: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_stream_time: Option<u64>,
    /// Frames on which the face was detected.
    pub frames: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_confidence: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gender: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gender_confidence: Option<f64>,
}

/// Rounds pixels and years to one decimal place. `None` if JSON has no such number.
fn tenths(value: f64) -> Option<f64> {
    rounded(value, 10.0)
}

/// Rounds confidences and distances to four decimal places. `None` if JSON has no such number.
fn fine(value: f64) -> Option<f64> {
    rounded(value, 10_000.0)
}

fn rounded(value: f64, steps: f64) -> Option<f64> {
    let rounded = (value * steps).round() / steps;
    // A number too large to be scaled has no decimals. Adding zero removes the sign of a negative
    // zero.
    let rounded = if rounded.is_finite() { rounded } else { value };
    rounded.is_finite().then_some(rounded + 0.0)
}

/// The whole array, or `None` if any element is missing.
fn all<const N: usize>(values: [Option<f64>; N]) -> Option<[f64; N]> {
    let mut found = [0.0; N];
    for (found, value) in found.iter_mut().zip(values) {
        *found = value?;
    }
    Some(found)
}

impl Face {
    /// The record of a face on a buffer; `None` if JSON cannot represent its box.
    pub fn of(face: &crate::Face) -> Option<Self> {
        let rect = &face.rect;
        let recognition = face.recognition.as_ref();
        let gender = face.gender.as_ref();
        let expression = face.expression.as_ref();
        let landmarks = face.landmarks.and_then(|points| {
            let mut found = [[0.0; 2]; 5];
            for (found, point) in found.iter_mut().zip(points) {
                *found = all([point.x, point.y].map(tenths))?;
            }
            Some(found)
        });
        Some(Self {
            r#box: all([rect.x, rect.y, rect.w, rect.h].map(tenths))?,
            confidence: face.confidence.and_then(fine),
            landmarks,
            pose: (face.pose).and_then(|pose| all(<[f64; 3]>::from(pose).map(tenths))),
            track: face.track.map(|track| track.id),
            predicted: face.is_predicted(),
            name: recognition.map(|r| r.name.clone()),
            name_confidence: recognition.and_then(|r| fine(r.confidence)),
            distance: recognition.and_then(|r| fine(r.distance)),
            quality: face.quality.and_then(|q| fine(q.quality)),
            sharpness: face.quality.and_then(|q| fine(q.sharpness)),
            brightness: face.quality.and_then(|q| fine(q.brightness)),
            age: face.age.and_then(tenths),
            gender: gender.map(|g| g.label.clone()),
            gender_confidence: gender.and_then(|g| fine(g.confidence)),
            expression: expression.map(|e| e.label.clone()),
            expression_confidence: expression.and_then(|e| fine(e.confidence)),
        })
    }
}

impl Frame {
    /// The faces of a frame with this number, times and size.
    fn of(frame: u64, times: Times, size: (u32, u32), faces: &[crate::Face]) -> Self {
        Self {
            frame,
            pts: times.pts,
            stream_time: times.stream,
            width: size.0,
            height: size.1,
            faces: faces.iter().filter_map(Face::of).collect(),
        }
    }

    pub fn times(&self) -> Times {
        Times {
            pts: self.pts,
            stream: self.stream_time,
        }
    }
}

impl Track {
    /// The times of the first frame on which the face was detected.
    pub fn first(&self) -> Times {
        Times {
            pts: self.first_pts,
            stream: self.first_stream_time,
        }
    }

    /// The times of the last frame on which the face was detected.
    pub fn last(&self) -> Times {
        Times {
            pts: self.last_pts,
            stream: self.last_stream_time,
        }
    }

    /// Sets the times of the first and the last frame on which the face was detected.
    pub fn between(self, first: Times, last: Times) -> Self {
        Self {
            first_pts: first.pts,
            last_pts: last.pts,
            first_stream_time: first.stream,
            last_stream_time: last.stream,
            ..self
        }
    }

    /// Adds the results of the whole track: a name with the probability that it is right, the age in years,
    /// the gender.
    fn with(self, name: Option<&(String, f64)>, age: Option<f64>, gender: Option<&Gender>) -> Self {
        Self {
            name: name.map(|(name, _)| name.clone()),
            name_confidence: name.and_then(|(_, confidence)| fine(*confidence)),
            age: age.and_then(tenths),
            gender: gender.map(|gender| gender.label.clone()),
            gender_confidence: gender.and_then(|gender| fine(gender.confidence)),
            ..self
        }
    }
}

impl Line {
    /// Serialises the line, with its newline.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::{Point, Rect};
    use crate::{Embedding, Recognition};

    fn print(faces: &[crate::Face]) -> String {
        let line = Line::Frame(Frame::of(12, Times::default(), (640, 360), faces));
        String::from_utf8(line.to_bytes().expect("serialises")).expect("is UTF-8")
    }

    #[test]
    fn keys_without_a_writer_are_absent() {
        let face = crate::Face {
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
        let face = crate::Face {
            id: 1,
            rect: Rect::new(1.0, 2.0, 3.0, 4.0),
            landmarks: Some([1.0, 2.0, 3.0, 4.0, 5.0].map(|v| Point::new(v, v + 0.55))),
            confidence: Some(0.912_345_6),
            model: Some("yunet".into()),
            track: Some(crate::Track {
                id: u64::MAX,
                first_seen: 0,
                predicted: true,
            }),
            recognition: Some(Recognition {
                name: "a \"b\"\n\\ é\u{1}".into(),
                confidence: 2.0 / 3.0,
                distance: 0.4,
            }),
            pose: Some(crate::Pose::from([12.34, -5.0, 0.04])),
            quality: Some(crate::Quality {
                quality: 0.5,
                sharpness: 0.912_34,
                brightness: 0.25,
            }),
            age: Some(27.449),
            gender: Some(Gender {
                label: "female".into(),
                confidence: 1.0,
            }),
            expression: Some(crate::Expression {
                label: "happy".into(),
                confidence: 0.75,
            }),
            embedding: Some(Embedding {
                model: "sface".into(),
                values: vec![1.0; 128],
                weight: Some(0.5),
            }),
        };
        assert_eq!(
            print(&[face]),
            concat!(
                r#"{"type":"frame","frame":12,"pts":null,"width":640,"height":360,"faces":[{"#,
                r#""box":[1.0,2.0,3.0,4.0],"confidence":0.9123,"#,
                r#""landmarks":[[1.0,1.6],[2.0,2.6],[3.0,3.6],[4.0,4.6],[5.0,5.6]],"pose":[12.3,-5.0,0.0],"#,
                r#""track":18446744073709551615,"predicted":true,"#,
                r#""name":"a \"b\"\n\\ é\u0001","name_confidence":0.6667,"distance":0.4,"#,
                r#""quality":0.5,"sharpness":0.9123,"brightness":0.25,"#,
                r#""age":27.4,"gender":"female","gender_confidence":1.0,"#,
                r#""expression":"happy","expression_confidence":0.75}]}"#,
                "\n"
            )
        );
    }

    #[test]
    fn numbers_that_json_lacks_are_absent_and_every_line_is_readable() {
        let boxless = |x| crate::Face {
            rect: Rect::new(x, 1.0, 2.0, 3.0),
            ..Default::default()
        };
        let odd = crate::Face {
            rect: Rect::new(0.0, f64::MAX, 1.0, 0.0),
            landmarks: Some([1.0, 2.0, f64::NAN, 4.0, 5.0].map(|v| Point::new(v, v))),
            confidence: Some(f64::NAN),
            recognition: Some(Recognition {
                name: "penny".into(),
                confidence: f64::INFINITY,
                distance: f64::NAN,
            }),
            age: Some(f64::NEG_INFINITY),
            gender: Some(Gender {
                label: "female".into(),
                confidence: f64::NAN,
            }),
            ..Default::default()
        };
        let text = print(&[boxless(f64::NAN), odd, boxless(f64::INFINITY)]);
        let read: Line = serde_json::from_str(&text).expect("readable");
        let expected = Face {
            r#box: [0.0, f64::MAX, 1.0, 0.0],
            name: Some("penny".into()),
            gender: Some("female".into()),
            ..Default::default()
        };
        let Line::Frame(frame) = read else {
            panic!("a track");
        };
        assert_eq!(frame.faces, [expected]);
    }

    #[test]
    fn a_line_is_read_and_written_unchanged() {
        for text in [
            r#"{"type":"frame","frame":12,"pts":null,"width":640,"height":360,"faces":[{"box":[0.0,1.3,10.0,20.0]}]}"#,
            r#"{"type":"frame","frame":0,"pts":5,"width":64,"height":36,"faces":[{"box":[1.0,2.0,3.0,4.0],"confidence":0.9123,"track":18446744073709551615,"predicted":true,"name":"a","name_confidence":0.6667,"distance":0.4,"age":27.4,"gender":"female","gender_confidence":1.0}]}"#,
            r#"{"type":"frame","frame":0,"pts":1377,"stream_time":0,"width":64,"height":36,"faces":[]}"#,
            r#"{"type":"track","track":1,"first_pts":10,"last_pts":20,"frames":2,"name":"penny","name_confidence":0.75,"age":20.1}"#,
            r#"{"type":"track","track":1,"first_pts":10,"last_pts":20,"first_stream_time":0,"last_stream_time":10,"frames":2}"#,
        ] {
            let line: Line = serde_json::from_str(text).expect("valid");
            assert_eq!(serde_json::to_string(&line).expect("serialises"), text);
        }
    }
}
