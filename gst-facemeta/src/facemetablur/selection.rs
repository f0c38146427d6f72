//! Whose faces are hidden.

use face_core::meta::Face;
use face_core::names::{self, UNKNOWN};

use super::Target;

/// Which faces are to be hidden.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    pub target: Target,
    /// The people meant by `named` and `all-but-named`; empty = everybody with a name.
    pub names: Vec<String>,
    /// What the recogniser calls a face that is nobody.
    pub unknown_label: String,
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            target: Target::All,
            names: Vec::new(),
            unknown_label: UNKNOWN.into(),
        }
    }
}

impl Selection {
    /// The names of a list separated by commas.
    pub fn parse_names(list: &str) -> Vec<String> {
        let names = list.split(',').map(str::trim);
        names.filter(|n| !n.is_empty()).map(str::to_owned).collect()
    }

    /// Fails if one of the names is nobody's: who meant somebody by it would see their face.
    pub fn check(&self) -> Result<(), String> {
        self.names
            .iter()
            .try_for_each(|name| match *name == self.unknown_label {
                true => Err(format!(
                    "{} cannot be a person's name: it is the unknown-label",
                    names::quoted(name)
                )),
                false => names::check(name),
            })
    }

    /// Whether a face is hidden. One that has not been named yet may be anybody: it is hidden, as
    /// what was shown once cannot be taken back.
    pub fn hides(&self, face: &Face) -> bool {
        let Some(name) = face.recognition.as_ref().map(|r| r.name.as_str()) else {
            return true;
        };
        let known = name != self.unknown_label && !name.is_empty();
        let listed = known && (self.names.is_empty() || self.names.iter().any(|n| n == name));
        match self.target {
            Target::All => true,
            Target::Unknown => !known,
            Target::AllButNamed => !listed,
            Target::Named => listed,
        }
    }
}

#[cfg(test)]
mod tests {
    use face_core::meta::Recognition;

    use super::*;

    fn face(name: &str) -> Face {
        Face {
            recognition: (name != "-").then(|| Recognition {
                name: name.into(),
                confidence: 1.0,
                distance: 0.3,
            }),
            ..Default::default()
        }
    }

    /// Whether penny, leonard, a stranger and a face not named yet are hidden.
    fn hidden(target: Target, names: &str) -> [bool; 4] {
        let selection = Selection {
            target,
            names: Selection::parse_names(names),
            ..Default::default()
        };
        ["penny", "leonard", "Unknown", "-"].map(|name| selection.hides(&face(name)))
    }

    #[test]
    fn targets() {
        assert_eq!(hidden(Target::All, "penny"), [true; 4]);
        assert_eq!(hidden(Target::Unknown, "penny"), [false, false, true, true]);
        assert_eq!(hidden(Target::AllButNamed, ""), [false, false, true, true]);
        assert_eq!(
            hidden(Target::AllButNamed, " penny , howard,"),
            [false, true, true, true]
        );
        assert_eq!(hidden(Target::Named, "penny"), [true, false, false, true]);
        assert_eq!(hidden(Target::Named, ""), [true, true, false, true]);
    }

    #[test]
    fn names_are_those_of_people() {
        let check = |list: &str| {
            let names = Selection::parse_names(list);
            let unknown_label = "niemand".into();
            let selection = Selection {
                names,
                unknown_label,
                ..Default::default()
            };
            selection.check()
        };
        assert_eq!(check("penny, Ünal ,李雷"), Ok(()));
        for list in ["penny,Unknown", "niemand", "a\nb", "\u{202e}ann"] {
            assert!(check(list).is_err(), "{list:?}");
        }
    }

    #[test]
    fn another_word_for_unknown() {
        let selection = Selection {
            target: Target::Unknown,
            unknown_label: "niemand".into(),
            ..Default::default()
        };
        assert!(selection.hides(&face("niemand")));
        assert!(!selection.hides(&face("Unknown")), "a person by that name");
    }
}
