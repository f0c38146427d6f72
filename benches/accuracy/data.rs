//! The labelled pictures: a folder that anybody may bring, and the media of the set-up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use face_meta::geometry::Rect;

use crate::measures::Random;

/// Which pictures are taken from sets that are larger than their limit.
pub const SEED: u64 = 20_240_601;

/// The most pictures of each kind. What is more is left out at random.
const MOST_PEOPLE: usize = 80;
const MOST_PICTURES: usize = 700;

/// A portrait with an age and a gender.
#[derive(Debug, Clone)]
pub struct Aged {
    pub path: PathBuf,
    /// Whether it is cut so tightly that it needs a border.
    pub tight: bool,
    /// Years, both included.
    pub age: (f64, f64),
    pub gender: String,
}

/// A labelled box.
#[derive(Debug, Clone)]
pub struct Labelled {
    pub rect: Rect,
    /// The groups to which it belongs, such as `easy`, `hard` or `mask`.
    pub groups: Vec<String>,
}

/// A folder of labelled pictures. Every part of it may be missing.
#[derive(Debug, Default)]
pub struct Data {
    pub folder: PathBuf,
    /// The photos of each person, by name.
    pub people: BTreeMap<String, Vec<PathBuf>>,
    pub strangers: Vec<PathBuf>,
    pub aged: Vec<Aged>,
    /// The boxes on each picture.
    pub crowds: BTreeMap<PathBuf, Vec<Labelled>>,
    pub masks: BTreeMap<PathBuf, Vec<Labelled>>,
    /// Pictures and expressions.
    pub expressions: Vec<(PathBuf, String)>,
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// The rows of a list, without its head. Missing lists are empty.
fn rows(path: &Path) -> Result<Vec<Vec<String>>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let row = |line: &str| line.split(',').map(|cell| cell.trim().to_owned()).collect();
    Ok(text.lines().skip(1).map(row).collect())
}

/// At most `most` of the items, chosen at random but always the same, in their order.
fn some<T>(mut items: Vec<T>, most: usize) -> Vec<T> {
    if items.len() > most {
        let mut order: Vec<usize> = (0..items.len()).collect();
        Random(SEED).shuffle(&mut order);
        let taken = &order[..most];
        let mut index = 0..;
        items.retain(|_| index.next().is_some_and(|i| taken.contains(&i)));
    }
    items
}

impl Data {
    /// Reads the lists in `folder`.
    ///
    /// # Errors
    /// If a list has a row that cannot be read, or there is nothing at all.
    pub fn read(folder: &Path) -> Result<Self> {
        ensure!(
            folder.is_dir(),
            "{} is no folder; benches/README.md says what belongs in it",
            folder.display()
        );
        let people = files(&folder.join("people"));
        let people = some(people, MOST_PEOPLE).into_iter().map(|folder| {
            let name = folder.file_name().unwrap_or_default();
            (name.to_string_lossy().into_owned(), files(&folder))
        });
        let mut data = Self {
            folder: folder.to_owned(),
            people: people.filter(|(_, photos)| !photos.is_empty()).collect(),
            strangers: some(files(&folder.join("strangers")), MOST_PICTURES),
            ..Self::default()
        };
        let list = folder.join("ages.csv");
        let aged = rows(&list)?.into_iter().map(|row| aged(folder, &row));
        let aged: Option<Vec<Aged>> = aged.collect();
        let aged =
            aged.with_context(|| format!("{}: a row is not file,from,to,gender", list.display()))?;
        data.aged = some(aged, MOST_PICTURES);
        let list = folder.join("boxes.csv");
        for row in rows(&list)? {
            let (file, label) = labelled(&row).with_context(|| {
                format!(
                    "{}: a row is not file,x,y,width,height,counts",
                    list.display()
                )
            })?;
            let set = match file.starts_with("masks/") {
                true => &mut data.masks,
                false => &mut data.crowds,
            };
            set.entry(folder.join(file)).or_default().push(label);
        }
        for set in [&mut data.crowds, &mut data.masks] {
            let all = std::mem::take(set).into_iter().collect();
            *set = some(all, MOST_PICTURES).into_iter().collect();
        }
        let expressions = rows(&folder.join("expressions.csv"))?;
        let expression = |row: Vec<String>| Some((folder.join(row.first()?), row.get(1)?.clone()));
        data.expressions = some(
            expressions.into_iter().filter_map(expression).collect(),
            MOST_PICTURES,
        );
        let found = data.people.len() + data.aged.len() + data.crowds.len() + data.masks.len();
        ensure!(
            found > 0,
            "{} has no labelled pictures; benches/README.md says what belongs in it",
            folder.display()
        );
        Ok(data)
    }
}

fn aged(folder: &Path, row: &[String]) -> Option<Aged> {
    let [file, from, to, gender, ..] = row else {
        return None;
    };
    Some(Aged {
        path: folder.join(file),
        tight: file.starts_with("crops/"),
        age: (from.parse().ok()?, to.parse().ok()?),
        gender: gender.clone(),
    })
}

fn labelled(row: &[String]) -> Option<(String, Labelled)> {
    let [file, x, y, w, h, groups, ..] = row else {
        return None;
    };
    let number = |text: &String| text.parse::<f64>().ok();
    let label = Labelled {
        rect: Rect::new(number(x)?, number(y)?, number(w)?, number(h)?),
        groups: groups.split_whitespace().map(str::to_owned).collect(),
    };
    Some((file.clone(), label))
}

/// A picture of the media with one face, posed for a camera: its gender and expression. The file
/// names of its makers say so.
pub const POSED: [(&str, &str, &str); 4] = [
    ("0-f1-su-ph.jpg", "female", "surprised"),
    ("0-f15-hao-ph.jpg", "female", "happy"),
    ("15-f13-anc-ph.jpg", "female", "angry"),
    ("45-m7-di-ph.jpg", "male", "disgusted"),
];

/// Pictures of the media whose faces are all different people.
pub const PORTRAITS: [&str; 7] = [
    "t1.jpg",
    "0-f1-su-ph.jpg",
    "0-f15-hao-ph.jpg",
    "15-f13-anc-ph.jpg",
    "45-m7-di-ph.jpg",
    "Tom_Hanks_54745.png",
    "single_face.jpg",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_and_every_part_may_be_missing() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = Data::read(folder.path()).expect_err("empty").to_string();
        assert!(error.contains("README"), "{error}");
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("writable");
        };
        write(
            "boxes.csv",
            "file,x,y,width,height,counts\ncrowds/a.jpg,1,2,3,4,medium hard\nmasks/b.jpg,1,2,3,4,\n",
        );
        let data = Data::read(folder.path()).expect("boxes");
        let (path, boxes) = data.crowds.first_key_value().expect("one picture");
        assert!(path.ends_with("crowds/a.jpg"));
        assert_eq!(boxes[0].rect, Rect::new(1.0, 2.0, 3.0, 4.0));
        assert_eq!(boxes[0].groups, ["medium", "hard"]);
        assert_eq!(data.masks.len(), 1);
        write(
            "ages.csv",
            "file,age_from,age_to,gender\ncrops/x.jpg,3,9,female\n",
        );
        let data = Data::read(folder.path()).expect("ages");
        assert!(data.aged[0].tight && data.aged[0].age == (3.0, 9.0));
        write(
            "ages.csv",
            "file,age_from,age_to,gender\ncrops/x.jpg,three,9,female\n",
        );
        let error = Data::read(folder.path())
            .expect_err("no number")
            .to_string();
        assert!(error.contains("ages.csv"), "{error}");
    }

    #[test]
    fn a_choice_is_always_the_same_and_keeps_the_order() {
        let chosen = some((0..100).collect(), 10);
        assert_eq!(chosen, some((0..100).collect(), 10));
        assert_eq!(chosen.len(), 10);
        assert!(chosen.is_sorted());
        assert_eq!(some(vec![1, 2], 10), [1, 2]);
    }
}
