//! Finds the photos from which a gallery was made, to embed them again with another model.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use anyhow::{Result, ensure};
use face_gallery::Gallery;

use super::unnamed::STRANGERS;
use super::{LeftOut, Looked, Person, Photo, Reason};

/// The images of a gallery, and what is there of them.
pub struct Conversion {
    /// The people with the photos that were found.
    people: Vec<Person>,
    /// The images whose photos are missing.
    missing: Vec<LeftOut>,
    /// For each person and source, the number of variations.
    variations: HashMap<(String, String), usize>,
}

impl Conversion {
    /// Looks in `folder` for the photos of `gallery`, under the names that `list` shows: below the
    /// folder, or in the folder of the person as the gallery names them now.
    ///
    /// # Errors
    /// If `folder` is none, or no photo is there.
    pub fn plan(gallery: &Gallery, folder: &Path) -> Result<Self> {
        ensure!(folder.is_dir(), "{} is not a folder", folder.display());
        let mut plan = Self {
            people: Vec::new(),
            missing: Vec::new(),
            variations: HashMap::new(),
        };
        let person = |name: &String| Person {
            name: name.clone(),
            photos: Vec::new(),
        };
        plan.people.extend(gallery.people().iter().map(person));
        for row in 0..gallery.len() {
            let person = &mut plan.people[gallery.person_of(row)];
            let image = gallery.image_of(row);
            let source = gallery.source_of(image).to_owned();
            let key = (person.name.clone(), source.clone());
            if image != row {
                *plan.variations.entry(key).or_default() += 1;
                continue;
            }
            match find(folder, &person.name, &source) {
                Some(path) => person.photos.push(Photo { path, source }),
                None => plan.missing.push(LeftOut {
                    person: person.name.clone(),
                    source,
                    reason: Reason::Missing(folder.to_owned()).to_string(),
                }),
            }
        }
        ensure!(
            plan.people.iter().any(|person| !person.photos.is_empty()),
            "{} has none of the gallery's {} photos; name the folder from which it was enrolled, in \
             which each person has a folder (`facepipe gallery list` shows the photos)",
            folder.display(),
            plan.missing.len()
        );
        let unnamed = gallery.strangers().iter().map(|source| LeftOut {
            person: STRANGERS.into(),
            source: source.clone(),
            reason: Reason::NotNamed.to_string(),
        });
        plan.missing.extend(unnamed);
        Ok(plan)
    }

    /// The most variations that a photo has.
    pub fn most_variations(&self) -> usize {
        self.variations.values().copied().max().unwrap_or(0)
    }

    /// The people and their photos, to be looked at.
    pub fn take_people(&mut self) -> Vec<Person> {
        std::mem::take(&mut self.people)
    }

    /// Leaves each photo the number of variations that it had.
    pub fn trim(&self, looked: &mut [Looked]) {
        for Looked { person, photos } in looked {
            for (source, rows) in photos {
                let key = (person.clone(), source.clone());
                let variations = self.variations.get(&key).copied().unwrap_or(0);
                if let Ok(embedded) = rows {
                    embedded.rows.truncate(1 + variations);
                }
            }
        }
    }

    /// The images whose photos are missing.
    pub fn missing(self) -> Vec<LeftOut> {
        self.missing
    }
}

/// The photo with this source. A gallery may come from anybody, so nothing outside of `folder` is looked at.
fn find(folder: &Path, person: &str, source: &str) -> Option<PathBuf> {
    let source = Path::new(source);
    let inside = |path: &Path| {
        let mut components = path.components();
        components.all(|component| matches!(component, Component::Normal(_)))
    };
    if source.as_os_str().is_empty() || !inside(source) {
        return None;
    }
    // People may have been renamed, and photos may have been added to them from elsewhere.
    let own = Path::new(person).join(source.file_name()?);
    let own = Some(own).filter(|own| inside(own));
    let mut paths = [Some(source.to_owned()), own].into_iter().flatten();
    paths.find_map(|path| Some(folder.join(path)).filter(|path| path.is_file()))
}

#[cfg(test)]
mod tests {
    use face_gallery::{ModelId, Row, edit};

    use super::super::Embedded;
    use super::*;

    fn gallery(images: &[(&str, &str, usize)]) -> Gallery {
        let model = ModelId {
            name: "m".into(),
            sha256: String::new(),
        };
        let mut gallery = Gallery::new(model, 2);
        for (person, source, variations) in images {
            let rows = vec![[1.0, 0.5]; 1 + variations];
            edit::add_image(&mut gallery, person, source, &rows).expect("it fits");
        }
        gallery
    }

    fn folder(photos: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for photo in photos {
            let path = folder.path().join(photo);
            std::fs::create_dir_all(path.parent().expect("in a folder")).expect("writable");
            std::fs::write(path, "").expect("writable");
        }
        folder
    }

    #[test]
    fn photos_are_found_by_source_or_in_the_folder_of_their_person() {
        let mut gallery = gallery(&[
            ("Ann", "Ann/1.jpg", 0),
            ("Bob", "Robert/1.jpg", 2),
            ("Ann", "Ann/holiday/2.jpg", 0),
            ("Ann", "elsewhere/3.jpg", 1),
            ("Ann", "film track 3", 0),
        ]);
        assert!(gallery.push_stranger("stranger/postman.jpg", &[0.0, 1.0]));
        let folder = folder(&["Ann/1.jpg", "Ann/holiday/2.jpg", "Ann/3.jpg", "Bob/1.jpg"]);
        let mut plan = Conversion::plan(&gallery, folder.path()).expect("photos");
        assert_eq!(plan.most_variations(), 2);
        let people = plan.take_people();
        let photos = |i: usize| -> Vec<(&Path, &str)> {
            let photos = people[i].photos.iter();
            let inside = |path: &'_ Path| path.strip_prefix(folder.path()).is_ok();
            photos
                .inspect(|photo| assert!(inside(&photo.path)))
                .map(|photo| {
                    let path = photo.path.strip_prefix(folder.path()).expect("inside");
                    (path, photo.source.as_str())
                })
                .collect()
        };
        let expected = [
            ("Ann/1.jpg", "Ann/1.jpg"),
            ("Ann/holiday/2.jpg", "Ann/holiday/2.jpg"),
            ("Ann/3.jpg", "elsewhere/3.jpg"),
        ];
        assert_eq!(
            photos(0),
            expected.map(|(path, source)| (Path::new(path), source))
        );
        assert_eq!(photos(1), [(Path::new("Bob/1.jpg"), "Robert/1.jpg")]);
        let mut looked = vec![Looked {
            person: "Bob".into(),
            photos: vec![(
                "Robert/1.jpg".into(),
                Ok(Embedded {
                    rows: vec![vec![1.0, 0.0]; 5],
                    turned: 0,
                    poor: Vec::new(),
                    notes: Vec::new(),
                }),
            )],
        }];
        plan.trim(&mut looked);
        let rows = looked[0].photos[0]
            .1
            .as_ref()
            .map(|embedded| embedded.rows.len());
        assert_eq!(rows.ok(), Some(3), "the photo and its two variations");
        let missing = plan.missing();
        let missing: Vec<&str> = missing.iter().map(|image| image.source.as_str()).collect();
        assert_eq!(missing, ["film track 3", "stranger/postman.jpg"]);
    }

    #[test]
    fn nothing_outside_of_the_folder_is_looked_at() {
        let folder = folder(&["photos/Ann/1.jpg", "secret.jpg"]);
        let photos = folder.path().join("photos");
        let secret = folder.path().join("secret.jpg");
        let secret = secret.to_str().expect("UTF-8");
        for source in ["../secret.jpg", secret, "Ann/../../secret.jpg", ".", ""] {
            let gallery = gallery(&[("Ann", "Ann/1.jpg", 0), ("..", source, 0)]);
            let mut plan = Conversion::plan(&gallery, &photos).expect("one photo");
            assert!(plan.take_people()[1].photos.is_empty(), "{source}");
            assert_eq!(plan.missing().len(), 1, "{source}");
        }
        let row = Row {
            person: "Ann".into(),
            source: "Ann/2.jpg".into(),
        };
        let mut lost = gallery(&[]);
        assert!(lost.push(row, &[1.0, 0.0]));
        let error = Conversion::plan(&lost, &photos).err().expect("no photo");
        assert!(error.to_string().contains("gallery list"), "{error}");
    }
}
