//! Folders of people.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use face_core::names;

use super::{Person, Photo};
use crate::ui;

/// The people in `folder`, sorted by name.
pub fn find_people(folder: &Path) -> Result<Vec<Person>> {
    let layout = "expected one folder a person, such as PEOPLE_DIR/Ann/photo.jpg";
    ensure!(
        folder.exists(),
        "{} does not exist; {layout}",
        folder.display()
    );
    ensure!(
        folder.is_dir(),
        "{} is no folder; {layout}",
        folder.display()
    );
    let mut people = Vec::new();
    let mut loose = Vec::new();
    for path in visible_entries(folder)? {
        if !path.is_dir() {
            loose.push(path);
            continue;
        }
        let mut photos = Vec::new();
        collect_files(&path, &mut photos)?;
        let refused = |reason: String| anyhow!("a folder in {}: {reason}", folder.display());
        let name = path.file_name().unwrap_or_default();
        let name = name
            .to_str()
            .ok_or_else(|| refused(format!("its name {name:?} is not UTF-8")))?
            .to_owned();
        names::check(&name).map_err(refused)?;
        let photo = |path: PathBuf| Photo {
            source: path
                .strip_prefix(folder)
                .unwrap_or(&path)
                .display()
                .to_string(),
            path,
        };
        let photos = photos.into_iter().map(photo).collect();
        people.push(Person { name, photos });
    }
    if people.iter().all(|p| p.photos.is_empty()) {
        let what = match (loose.len(), people.len()) {
            (0, 0) => "is empty".to_owned(),
            (0, _) => "has folders, but no file in them".to_owned(),
            (n, _) => format!(
                "holds {} directly, but no folder with files",
                ui::count(n as u64, "file")
            ),
        };
        bail!("{} {what}; {layout}", folder.display());
    }
    for path in &loose {
        tell!(
            "enroll: {} is in no person's folder and is skipped",
            path.display()
        );
    }
    Ok(people)
}

/// What is in `folder` and not hidden, sorted.
pub fn visible_entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = || format!("{} cannot be read", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(unreadable)? {
        let entry = entry.with_context(unreadable)?;
        let name = entry.file_name();
        // What Windows leaves in folders is hidden there, too.
        let hidden = name.as_encoded_bytes().starts_with(b".")
            || ["Thumbs.db", "desktop.ini"].iter().any(|n| name == *n);
        if !hidden {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// The files in `folder` and the folders in it, sorted. Links to folders are not followed, as they
/// may lead in circles.
pub fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for path in visible_entries(folder)? {
        if !path.is_dir() {
            files.push(path);
        } else if !path.is_symlink() {
            collect_files(&path, files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_people_in_order() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let error = || {
            find_people(dir.path())
                .err()
                .expect("no people")
                .to_string()
        };
        assert!(error().contains("is empty"));
        fs::write(dir.path().join("a.jpg"), "").expect("writable");
        assert!(error().contains("holds 1 file directly") && error().contains("Ann/photo.jpg"));
        for file in [
            "bob/2.jpg",
            "bob/1.jpg",
            "bob/more/0.jpg",
            "ann/x.png",
            "ann/.hidden",
            ".git/x",
        ] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().expect("in a folder")).expect("writable");
            fs::write(path, "").expect("writable");
        }
        let people = find_people(dir.path()).expect("two people");
        let names: Vec<_> = people.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["ann", "bob"]);
        let photos =
            |i: usize| -> Vec<_> { people[i].photos.iter().map(|p| p.source.clone()).collect() };
        assert_eq!(photos(0), ["ann/x.png"]);
        assert_eq!(photos(1), ["bob/1.jpg", "bob/2.jpg", "bob/more/0.jpg"]);
    }
}
