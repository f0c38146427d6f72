//! Whose faces are hidden.

use face_meta::Face;
use face_meta::names::{self, UNKNOWN};
use face_meta::people::KnownPeople;

use super::Target;

/// Which faces to hide.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    pub target: Target,
    /// The people for `named` and `all-but-named`; empty = everybody with a name. An error if the
    /// list cannot be read.
    pub names: Result<Vec<String>, String>,
    /// The recogniser's name for unknown faces.
    pub unknown_label: String,
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            target: Target::All,
            names: Ok(Vec::new()),
            unknown_label: UNKNOWN.into(),
        }
    }
}

impl Selection {
    /// The names, if the list can be read.
    pub fn names(&self) -> &[String] {
        self.names.as_deref().unwrap_or_default()
    }

    /// The names that count for the target.
    pub fn counting(&self) -> &[String] {
        match self.target {
            Target::Named | Target::AllButNamed => self.names(),
            _ => &[],
        }
    }

    /// The list in its usual form.
    pub fn names_text(&self) -> String {
        let names: Vec<_> = self
            .names()
            .iter()
            .map(|n| names::list_element(n))
            .collect();
        names.join(",")
    }

    /// Fails if the list cannot be read or a name cannot be a person's. A user who means somebody
    /// by it would be shown that face.
    pub fn check(&self) -> Result<(), String> {
        let names = self.names.as_ref().map_err(String::clone)?;
        names
            .iter()
            .try_for_each(|name| match *name == self.unknown_label {
                true => Err(format!(
                    "{} cannot be a person's name: it is the unknown-label",
                    names::quoted(name)
                )),
                false => names::check(name),
            })
    }

    /// The names that no gallery upstream has.
    pub fn strangers<'a>(&'a self, known: &'a KnownPeople) -> impl Iterator<Item = &'a String> {
        let names = self.counting().iter();
        names.filter(|name| !known.0.contains(*name))
    }

    /// Whether to hide a face. A face without a name yet may be anybody's and is hidden: once
    /// shown, it cannot be taken back.
    pub fn hides(&self, face: &Face) -> bool {
        let Some(name) = face.recognition.as_ref().map(|r| r.name.as_str()) else {
            return true;
        };
        let known = name != self.unknown_label && !name.is_empty();
        let names = self.names();
        let listed = known && (names.is_empty() || names.iter().any(|n| names::same(n, name)));
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
    use face_meta::Recognition;

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

    /// Whether penny, leonard, an unknown face and a face not named yet are hidden.
    fn hidden(target: Target, names: &str) -> [bool; 4] {
        let selection = Selection {
            target,
            names: names::list(names),
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
        assert_eq!(
            hidden(Target::Named, r#""penny, jane", 'leonard'"#),
            [false, true, false, true]
        );
        assert_eq!(hidden(Target::Named, "penny"), [true, false, false, true]);
        assert_eq!(hidden(Target::Named, ""), [true, true, false, true]);
    }

    #[test]
    fn names_are_those_of_people() {
        let check = |list: &str| {
            let names = names::list(list);
            let unknown_label = "niemand".into();
            let selection = Selection {
                names,
                unknown_label,
                ..Default::default()
            };
            selection.check()
        };
        assert_eq!(check("penny, Ünal ,李雷"), Ok(()));
        for list in [
            "penny,Unknown",
            "niemand",
            "a\nb",
            "\u{202e}ann",
            "\"Doe, Jane",
        ] {
            assert!(check(list).is_err(), "{list:?}");
        }
    }

    #[test]
    fn a_name_in_another_unicode_form_is_the_same() {
        for (listed, found) in [("Jos\u{e9}", "Jose\u{301}"), ("Jose\u{301}", "Jos\u{e9}")] {
            let selection = Selection {
                target: Target::AllButNamed,
                names: names::list(listed),
                ..Default::default()
            };
            assert!(!selection.hides(&face(found)));
            let known = KnownPeople(["Jos\u{e9}".to_owned()].into());
            assert_eq!(selection.strangers(&known).count(), 0);
        }
    }

    #[test]
    fn the_list_is_shown_as_it_can_be_written() {
        let selection = Selection {
            names: names::list("Bob, 'Doe, Jane'"),
            ..Default::default()
        };
        assert_eq!(selection.names_text(), r#"Bob,"Doe, Jane""#);
    }

    #[test]
    fn names_of_nobody_are_told() {
        let known = KnownPeople(["penny", "leonard"].map(str::to_owned).into());
        let strangers = |target, names| {
            let names = names::list(names);
            let selection = Selection {
                target,
                names,
                ..Default::default()
            };
            let strangers: Vec<String> = selection.strangers(&known).cloned().collect();
            strangers
        };
        for target in [Target::Named, Target::AllButNamed] {
            assert_eq!(strangers(target, "penny,Penny,lenard"), ["Penny", "lenard"]);
            assert!(strangers(target, "").is_empty() && strangers(target, "leonard").is_empty());
        }
        assert!(
            strangers(Target::All, "lenard").is_empty(),
            "names do not count"
        );
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
