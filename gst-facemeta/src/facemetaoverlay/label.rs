//! The text of a face's label.

use face_meta::Face;

/// The text of a label: the name with its detail on the first line, the rest on a second.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Label {
    pub name: String,
    pub detail: String,
    pub second: String,
}

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    pub name: bool,
    pub confidence: bool,
    pub age: bool,
    pub gender: bool,
    pub expression: bool,
    pub track: bool,
}

/// The longest name. It is more than a label can show.
const LONGEST: usize = 120;

/// In whole percent. Nearly certain is not certain: 0.999 is 99 %.
fn percent(share: f64) -> String {
    let most = if share < 1.0 { 99.0 } else { 100.0 };
    format!("{:.0} %", (100.0 * share.max(0.0)).min(most))
}

/// A single line with only printable text.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST)
        .collect::<String>()
        .trim()
        .to_owned()
}

impl Label {
    /// The label of a face. The confidence is that of the name, or of the detection if there is no
    /// name.
    pub fn new(face: &Face, parts: Parts) -> Self {
        let track = face
            .track
            .filter(|_| parts.track)
            .map(|t| format!("#{}", t.id));
        let recognition = face.recognition.as_ref().filter(|_| parts.name);
        let name = recognition.map(|r| clean(&r.name)).unwrap_or_default();
        let confidence = match recognition {
            Some(r) => Some(r.confidence),
            None => face.confidence,
        };
        let detail = confidence
            .filter(|c| parts.confidence && c.is_finite())
            .map(percent)
            .unwrap_or_default();
        let age = face
            .age
            .filter(|a| parts.age && a.is_finite())
            .map(|a| format!("{:.0}", a.clamp(0.0, 999.0)));
        let gender = face
            .gender
            .as_ref()
            .filter(|_| parts.gender)
            .map(|g| clean(&g.label));
        let expression = face
            .expression
            .as_ref()
            .filter(|_| parts.expression)
            .map(|e| clean(&e.label));
        let join = |parts: &[Option<String>], between: &str| {
            let said: Vec<&str> = parts
                .iter()
                .flatten()
                .map(String::as_str)
                .filter(|part| !part.is_empty())
                .collect();
            said.join(between)
        };
        Self {
            name: join(&[track, Some(name)], " "),
            detail,
            second: join(&[age, gender, expression], ", "),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.name.is_empty() && self.detail.is_empty() && self.second.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use face_meta::{Expression, Gender, Recognition, Track};

    use super::*;

    const ALL: Parts = Parts {
        name: true,
        confidence: true,
        age: true,
        gender: true,
        expression: true,
        track: true,
    };

    fn label(name: &str, detail: &str, second: &str) -> Label {
        Label {
            name: name.into(),
            detail: detail.into(),
            second: second.into(),
        }
    }

    fn penny() -> Face {
        Face {
            confidence: Some(0.934),
            track: Some(Track {
                id: 3,
                first_seen: 0,
                predicted: false,
            }),
            recognition: Some(Recognition {
                name: "penny".into(),
                confidence: 0.83,
                distance: 0.4,
            }),
            age: Some(27.4),
            gender: Some(Gender {
                label: "female".into(),
                confidence: 0.99,
            }),
            ..Default::default()
        }
    }

    #[test]
    fn says_what_is_wanted() {
        assert_eq!(
            Label::new(&penny(), ALL),
            label("#3 penny", "83 %", "27, female")
        );
        let nameless = Parts {
            name: false,
            track: false,
            age: false,
            ..ALL
        };
        assert_eq!(Label::new(&penny(), nameless), label("", "93 %", "female"));
        assert!(Label::new(&Face::default(), ALL).is_empty());
        let mut smiling = penny();
        smiling.expression = Some(Expression {
            label: "happy".into(),
            confidence: 0.7,
        });
        assert_eq!(Label::new(&smiling, ALL).second, "27, female, happy");
        smiling.gender = None;
        assert_eq!(Label::new(&smiling, ALL).second, "27, happy");
    }

    #[test]
    fn names_are_one_line_of_text() {
        let mut face = penny();
        face.recognition = Some(Recognition {
            name: format!("\0<b>&\n{}", "x".repeat(1 << 20)),
            confidence: f64::NAN,
            distance: 0.0,
        });
        let label = Label::new(&face, ALL);
        assert!(label.name.starts_with("#3 <b>& xxx"));
        assert!(label.name.len() < 200);
        assert_eq!(label.detail, "");
    }

    #[test]
    fn only_certainty_is_100_percent() {
        assert_eq!(
            [0.984, 0.999, 1.0, 1.7, -0.1].map(percent),
            ["98 %", "99 %", "100 %", "100 %", "0 %"]
        );
    }
}
