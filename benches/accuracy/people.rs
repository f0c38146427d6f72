//! Measures whether the tracks of a film are joined to people, on made scenes whose people are known,
//! and what `--main-persons` does to their names.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use face_gallery::group::Agreement;
use face_meta::geometry::Rect;
use face_meta::record::Line;
use face_tests::crossing::{Footage, Person, SCENES, make, of_folder, of_media};
use serde_json::Value;

use crate::data::Data;
use crate::table::{Table, number, percent};

/// A face overlaps its truth by at least this share.
const OVERLAP: f64 = 0.3;

/// How many photos of a person are shown in scenes. The others are enrolled.
const SHOWN: usize = 4;

/// Runs the program. 3: done, but without some inputs.
fn facepipe<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Result<()> {
    let program = std::env::current_exe()?.with_file_name("facepipe");
    let output = Command::new(&program)
        .args(args)
        .output()
        .with_context(|| format!("{} does not run; build it first", program.display()))?;
    ensure!(
        matches!(output.status.code(), Some(0 | 3)),
        "facepipe failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// A track in the results, with the truth.
struct Seen {
    /// The scene and the track.
    key: (String, u64),
    /// The index of the person who is on most of its frames. `None` for a face in the background.
    truth: Option<usize>,
    person: Option<String>,
    name: Option<String>,
}

/// The person of `footage` on most frames of each track.
fn truths(results: &Path, footage: &Footage) -> Result<HashMap<u64, Option<usize>>> {
    let mut votes: HashMap<u64, HashMap<Option<usize>, usize>> = HashMap::new();
    let text = fs::read_to_string(results.join("faces.jsonl"))?;
    let mut truth = footage.faces.iter();
    for line in text.lines() {
        let Line::Frame(frame) = serde_json::from_str(line)? else {
            continue;
        };
        let truth = truth.next().context("more frames than were made")?;
        for face in frame.faces.iter().filter(|face| !face.predicted) {
            let Some(track) = face.track else { continue };
            let [x, y, w, h] = face.r#box;
            let rect = Rect::new(x, y, w, h);
            let overlap = |face: &&face_tests::crossing::Face| face.rect.iou(&rect);
            let nearest = truth
                .iter()
                .max_by(|a, b| overlap(a).total_cmp(&overlap(b)))
                .filter(|face| overlap(face) >= OVERLAP);
            let votes = votes.entry(track).or_default();
            *votes.entry(nearest.map(|face| face.person)).or_default() += 1;
        }
    }
    let most = |votes: HashMap<Option<usize>, usize>| {
        let most = votes.into_iter().max_by_key(|(who, count)| (*count, *who));
        most.and_then(|(who, _)| who)
    };
    Ok(votes
        .into_iter()
        .map(|(id, votes)| (id, most(votes)))
        .collect())
}

/// The tracks of a scene, and the number of people reported.
fn read(results: &Path, scene: &str, footage: &Footage) -> Result<(Vec<Seen>, usize)> {
    let folder = results.join(scene);
    let truths = truths(&folder, footage)?;
    let summary: Value = serde_json::from_slice(&fs::read(folder.join("summary.json"))?)?;
    let list = |key: &str| summary[key].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let tracks = list("tracks").into_iter().filter_map(|track| {
        let id = track["track"].as_u64()?;
        Some(Seen {
            key: (scene.to_owned(), id),
            truth: *truths.get(&id)?,
            person: text(&track["person"]),
            name: text(&track["name"]).filter(|name| name != "Unknown"),
        })
    });
    let people = list("people").len() + list("strangers").len();
    Ok((tracks.collect(), people))
}

/// A row of how well tracks are grouped. Tracks of the background are left out.
fn row(table: &mut Table, what: [String; 2], seen: &[Seen], found: usize) {
    let people = seen.iter().filter_map(|track| {
        // Whoever is not told is alone.
        let person = track.person.clone().ok_or_else(|| track.key.clone());
        Some((track.truth?, person))
    });
    let items: Vec<_> = people.collect();
    let Some(joined) = Agreement::of(&items) else {
        return;
    };
    let single: Vec<_> = items
        .iter()
        .enumerate()
        .map(|(i, (who, _))| (who, i))
        .collect();
    let before = Agreement::of(&single).map_or(f64::NAN, |before| before.f());
    let [scene, people] = what;
    table.row([
        scene,
        people,
        seen.len().to_string(),
        found.to_string(),
        percent(joined.pair_precision, 1),
        percent(joined.pair_recall, 1),
        number(joined.precision, 3),
        number(joined.recall, 3),
        number(joined.f(), 3),
        number(before, 3),
    ]);
}

const COLUMNS: [&str; 10] = [
    "scene",
    "people",
    "tracks",
    "people found",
    "pairs: precision, %",
    "pairs: recall, %",
    "B-cubed precision",
    "recall",
    "F",
    "F of tracks alone",
];

/// The scenes, each made and analysed.
fn films(cast: &[Person], folder: &Path) -> Result<Vec<(&'static str, usize, Footage)>> {
    let mut films = Vec::new();
    for scene in &SCENES {
        let footage = make(scene, cast, folder)?;
        films.push((scene.name, scene.people, footage));
    }
    Ok(films)
}

fn analyze(films: &[(&str, usize, Footage)], results: &Path, more: &[&OsStr]) -> Result<()> {
    let mut args: Vec<&OsStr> = vec!["analyze".as_ref()];
    args.extend(films.iter().map(|(.., footage)| footage.video.as_os_str()));
    args.extend([
        "--no-age-gender".as_ref(),
        "-o".as_ref(),
        results.as_os_str(),
    ]);
    args.extend(more);
    facepipe(args)
}

/// Tracks of made scenes.
pub fn scenes(data: Option<&Data>, out: &mut String) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let most = SCENES.iter().map(|scene| scene.people).max().unwrap_or(0);
    let made = data.map(|data| of_folder(&data.folder.join("people"), most, SHOWN));
    let made = made.transpose()?;
    let cast = made.as_deref().unwrap_or_else(|| of_media());
    *out += &format!(
        "Tracks of made scenes with known people (`tests/crossing.rs`), joined by `facepipe analyze`. {} \
         Tracks on faces in the background are counted as found, and have no part in the other \
         columns.\n\n",
        match made.is_some() {
            true => "Whoever returns after leaving the picture is shown on another photo.",
            false => "The people are those of the media of the set-up.",
        }
    );
    let films = films(cast, folder.path())?;
    let results = folder.path().join("results");
    analyze(&films, &results, &[])?;
    let mut table = Table::new(COLUMNS);
    for (scene, people, footage) in &films {
        let (seen, found) = read(&results, scene, footage)?;
        row(
            &mut table,
            [scene.to_string(), people.to_string()],
            &seen,
            found,
        );
    }
    facepipe(["cluster".as_ref(), results.as_os_str()])?;
    let mut all = Vec::new();
    for (scene, _, footage) in &films {
        all.extend(read(&results, scene, footage)?.0);
    }
    let clusters: Value = serde_json::from_slice(&fs::read(results.join("clusters.json"))?)?;
    let found = clusters["clusters"].as_array().map_or(0, Vec::len);
    let what = ["all, by `facepipe cluster`".into(), most.to_string()];
    row(&mut table, what, &all, found);
    *out += &format!("{table}\n");
    match data {
        Some(data) => main_persons(data, cast, &films, folder.path(), out),
        None => Ok(()),
    }
}

/// What `--main-persons` does to the names.
fn main_persons(
    data: &Data,
    cast: &[Person],
    films: &[(&str, usize, Footage)],
    folder: &Path,
    out: &mut String,
) -> Result<()> {
    let enrolled = folder.join("enrolled");
    for (person, photos) in &data.people {
        let to = enrolled.join(person);
        fs::create_dir_all(&to)?;
        for photo in photos.iter().skip(SHOWN).take(SHOWN) {
            fs::copy(photo, to.join(photo.file_name().context("a file")?))?;
        }
    }
    let gallery = folder.join("g.safetensors");
    let (from, to) = (enrolled.as_os_str(), gallery.as_os_str());
    facepipe([
        "enroll".as_ref(),
        from,
        "-o".as_ref(),
        to,
        "--largest".as_ref(),
    ])?;
    *out += &format!(
        "Names of the same tracks, with a gallery of {} people and {SHOWN} other photos of each. \
         `--main-persons` is the number of people in the scene. A person has the right name if all \
         their named tracks have it, by `person`.\n\n",
        data.people.len()
    );
    let mut table = Table::new([
        "scene",
        "`--main-persons`",
        "tracks",
        "right names",
        "wrong names",
        "right by `person`",
        "wrong by `person`",
    ]);
    for (scene, people, footage) in films {
        for main in [false, true] {
            let results: PathBuf = folder.join(format!("named-{main}"));
            let count = people.to_string();
            let mut more: Vec<&OsStr> = vec!["--gallery".as_ref(), gallery.as_os_str()];
            if main {
                more.extend::<[&OsStr; 2]>(["--main-persons".as_ref(), count.as_ref()]);
            }
            let film = [(*scene, *people, footage.clone())];
            analyze(&film, &results, &more)?;
            let (seen, _) = read(&results, scene, footage)?;
            let right = |name: Option<&str>, seen: &Seen| -> Option<bool> {
                let name = name.filter(|name| !name.starts_with("stranger-"))?;
                Some(seen.truth.is_some_and(|who| cast[who].name == name))
            };
            let count = |of: &dyn Fn(&Seen) -> Option<bool>, right: bool| {
                seen.iter().filter(|seen| of(seen) == Some(right)).count()
            };
            let named = |seen: &Seen| right(seen.name.as_deref(), seen);
            let person = |seen: &Seen| right(seen.person.as_deref(), seen);
            table.row([
                scene.to_string(),
                if main {
                    people.to_string()
                } else {
                    "–".into()
                },
                seen.len().to_string(),
                count(&named, true).to_string(),
                count(&named, false).to_string(),
                count(&person, true).to_string(),
                count(&person, false).to_string(),
            ]);
        }
    }
    *out += &format!("{table}\n");
    Ok(())
}

/// Groups of photos, where every face has one look.
pub fn photos(data: &Data, out: &mut String) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let results = folder.path().join("results");
    let photos = data.people.values().flatten().chain(&data.strangers);
    let photos: Vec<&PathBuf> = photos.collect();
    let mut args: Vec<&OsStr> = vec![
        "analyze".as_ref(),
        "--no-age-gender".as_ref(),
        "-o".as_ref(),
    ];
    args.push(results.as_os_str());
    args.extend(photos.iter().map(|photo| photo.as_os_str()));
    facepipe(args)?;
    facepipe(["cluster".as_ref(), results.as_os_str()])?;
    let clusters: Value = serde_json::from_slice(&fs::read(results.join("clusters.json"))?)?;
    // The name is that of the photo without its number. Photos with several faces are left out:
    // which one is the person's is not known.
    let mut faces: HashMap<String, Vec<String>> = HashMap::new();
    for cluster in clusters["clusters"].as_array().into_iter().flatten() {
        for track in cluster["tracks"].as_array().into_iter().flatten() {
            let (folder, id) = (track["folder"].as_str(), cluster["id"].as_str());
            if let (Some(folder), Some(id)) = (folder, id) {
                faces.entry(folder.into()).or_default().push(id.into());
            }
        }
    }
    let single = faces.into_iter().filter(|(_, ids)| ids.len() == 1);
    let items: Vec<(String, String)> = single
        .filter_map(|(photo, ids)| {
            let (name, _) = photo.rsplit_once('_')?;
            Some((name.to_owned(), ids.into_iter().next()?))
        })
        .collect();
    let found = Agreement::of(&items).context("no face was found")?;
    let mut table = Table::new([
        "photos",
        "people",
        "people found",
        "B-cubed precision",
        "recall",
        "F",
    ]);
    table.row([
        items.len().to_string(),
        found.people.to_string(),
        found.groups.to_string(),
        number(found.precision, 3),
        number(found.recall, 3),
        number(found.f(), 3),
    ]);
    *out += &format!(
        "Photos with one face each, of people with several photos and of strangers with one, grouped by \
         `facepipe cluster`.\n\n{table}\n"
    );
    Ok(())
}
