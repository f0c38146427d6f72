//! Folders of people.

use face_parts::tell;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use face_meta::names;

use super::{Person, Photo};
use crate::media::{self, Medium, Others};
use face_parts::ui;

/// The people in `folder`, sorted by name.
pub fn find_people(folder: &Path) -> Result<Vec<Person>> {
    let layout = "expected one folder per person, such as PEOPLE_DIR/Ann/photo.jpg";
    ensure!(
        folder.exists(),
        "{} does not exist; {layout}",
        folder.display()
    );
    ensure!(
        folder.is_dir(),
        "{} is not a folder; {layout}",
        folder.display()
    );
    let mut people = Vec::new();
    let mut loose = Vec::new();
    let mut others = Others::default();
    for path in media::entries(folder)? {
        if !path.is_dir() {
            loose.push(path);
            continue;
        }
        let mut photos = Vec::new();
        collect_photos(&path, &mut photos, &mut others)?;
        let refused = |reason: String| anyhow!("a folder in {}: {reason}", folder.display());
        let name = path.file_name().unwrap_or_default();
        let name = name
            .to_str()
            .ok_or_else(|| refused(format!("its name {name:?} is not UTF-8")))?;
        let name = names::checked(name).map_err(refused)?;
        let photo = |path: PathBuf| Photo {
            source: path
                .strip_prefix(folder)
                .unwrap_or(&path)
                .display()
                .to_string(),
            path,
        };
        let photos = photos.into_iter().map(photo);
        // Two forms of a name are two folders on many file systems.
        match people.iter_mut().find(|p: &&mut Person| p.name == name) {
            Some(person) => {
                tell!(
                    "enroll: {} is another folder of {}, whose name is written in another way",
                    path.display(),
                    names::quoted(&name)
                );
                person.photos.extend(photos);
            }
            None => people.push(Person {
                name,
                photos: photos.collect(),
            }),
        }
    }
    if people.iter().all(|p| p.photos.is_empty()) {
        let what = match (loose.len(), people.len()) {
            (0, 0) => "is empty".to_owned(),
            (0, _) if others.is_empty() => "has folders, but no pictures in them".to_owned(),
            (0, _) => format!("has folders, but no pictures in them, only {others}"),
            (n, _) => format!(
                "holds {} directly, but no folder with pictures",
                ui::count(n as u64, "file")
            ),
        };
        bail!("{} {what}; {layout}", folder.display());
    }
    for path in &loose {
        tell!(
            "enroll: skipped {}, which is in no person's folder",
            path.display()
        );
    }
    if !others.is_empty() {
        tell!("enroll: skipped {others}");
    }
    Ok(people)
}

/// The entries of `folder` that are not hidden, sorted. Pipes, sockets and devices are left out, also behind
/// links: reading them may never end.
pub fn visible_entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = || format!("{} cannot be read", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(unreadable)? {
        let entry = entry.with_context(unreadable)?;
        let name = entry.file_name();
        // Files that Windows creates and hides count as hidden, too.
        let hidden = name.as_encoded_bytes().starts_with(b".")
            || ["Thumbs.db", "desktop.ini"].iter().any(|n| name == *n);
        let path = entry.path();
        let special = fs::metadata(&path).is_ok_and(|m| !m.is_file() && !m.is_dir());
        if !hidden && !special {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The pictures in `folder`, recursively and sorted; other files are counted in `others`. Links to folders
/// are not followed, as they may form cycles.
pub fn collect_photos(folder: &Path, photos: &mut Vec<PathBuf>, others: &mut Others) -> Result<()> {
    for path in media::entries(folder)? {
        if path.is_dir() {
            if !path.is_symlink() {
                collect_photos(&path, photos, others)?;
            }
            continue;
        }
        match Medium::of(&path) {
            Medium::Picture => photos.push(path),
            Medium::Video => others.add("video".into()),
            Medium::Other(kind) => others.add(kind),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

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
            "ann/x.png.xmp",
            "ann/@eaDir/x.png/thumb.jpg",
            "@eaDir/thumb.jpg",
            "bob/clip.mov",
            ".git/x",
        ] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().expect("in a folder")).expect("writable");
            fs::write(path, "").expect("writable");
        }
        let pipe = dir.path().join("ann/pipe.jpg");
        let name = CString::new(pipe.as_os_str().as_bytes()).expect("no NUL");
        // SAFETY: `name` ends in a NUL.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        symlink("/dev/zero", dir.path().join("bob/zero.jpg")).expect("writable");
        let people = find_people(dir.path()).expect("two people");
        let names: Vec<_> = people.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["ann", "bob"]);
        let photos =
            |i: usize| -> Vec<_> { people[i].photos.iter().map(|p| p.source.clone()).collect() };
        assert_eq!(photos(0), ["ann/x.png"]);
        assert_eq!(photos(1), ["bob/1.jpg", "bob/2.jpg", "bob/more/0.jpg"]);
    }
}
