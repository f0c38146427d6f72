//! Measures how right the answers are: names, ages, genders, expressions, boxes and poses. Prints
//! Markdown (`make accuracy` writes it to benches/ACCURACY.md) and progress on standard error.
//!
//! Everything goes through the elements, as programs use them: `face_picture` reads, an `appsrc`
//! feeds, and the JSON record of each face is compared with the labels. Galleries are made by the
//! program `facepipe`. Only the curves of right names over strangers named call `face_gallery`
//! directly, on embeddings that the elements attach.
//!
//! `accuracy [DATA [SECTION]]`: without a folder (or with an empty name), only the media of the set-up
//! are used; with the beginning of a section's name, such as `people`, only those sections run.

mod ages;
mod cost;
mod data;
mod detection;
mod expression;
mod line;
mod measures;
mod people;
mod portraits;
mod pose;
mod scene;
mod table;
mod tracking;
mod who;

use std::path::{Path, PathBuf};

use anyhow::Result;

use data::Data;
use line::processor_time;
use portraits::Portrait;

/// Portraits of people that are shown in other ways to detectors and for the pose.
const SHOWN: usize = 150;

const LIMITS: &str = "\
## What the sets cannot tell

- They are photographs, most of them of frontal faces in good light. Cameras on streets and in halls see
  smaller, darker and turned faces; the tables of faces shown in other ways say how much that costs, but
  a made blur is not a real one.
- Tens of people and hundreds of strangers: a share of 0.1 % rests on one or two photographs. Labels of
  people in news photographs are wrong in a few cases.
- Ages and genders are what somebody read off the picture, except where birthdays are known. Old people,
  small children and many peoples are rare in them.
- Expressions are posed, and few.
- Still pictures say nothing of tracks, over which names, ages and genders gather evidence. The videos are made:
  faces from photographs, moved over a background.
- The media of the set-up are a dozen faces: they show that a line works, and little more.

";

/// Runs one section; what fails is said and does not stop the others.
fn section(title: &str, out: &mut String, work: impl FnOnce(&mut String) -> Result<()>) -> bool {
    let only = std::env::args().nth(2);
    if only.is_some_and(|only| !title.starts_with(&only)) {
        return true;
    }
    eprintln!("accuracy: {title}");
    let begin = processor_time();
    let outcome = work(out);
    if let Err(error) = &outcome {
        eprintln!("accuracy: {title} failed: {error:#}");
        *out += &format!("Not measured: {error:#}\n\n");
    }
    let seconds = (processor_time() - begin).as_secs_f64();
    eprintln!("accuracy: {title}: {seconds:.0} s of processor time");
    outcome.is_ok()
}

/// Portraits of people for detectors and poses: of the data, if any, else of the media.
fn portraits(data: Option<&Data>, media: &[Portrait]) -> Result<Vec<Portrait>> {
    let Some(data) = data.filter(|data| !data.people.is_empty()) else {
        return Ok(media.to_vec());
    };
    let firsts = data.people.iter().flat_map(|(person, photos)| {
        photos
            .iter()
            .take(2)
            .map(|photo| (person.clone(), photo.clone()))
    });
    let photos: Vec<(String, PathBuf)> = firsts.take(SHOWN).collect();
    let (found, _) = portraits::of_photos(&photos, |_| false)?;
    Ok(found.into_iter().map(|(_, portrait)| portrait).collect())
}

fn main() -> Result<()> {
    face_tests::init();
    let folder = std::env::args_os()
        .nth(1)
        .filter(|folder| !folder.is_empty());
    let data = folder
        .map(|folder| Data::read(Path::new(&folder)))
        .transpose()?;
    let data = data.as_ref();
    let media = portraits::of_media()?;
    let shown = portraits(data, &media)?;
    let mut ok = true;
    let mut text = String::new();
    let out = &mut text;

    *out += "## Sets\n\n";
    if let Some(data) = data {
        let photos: usize = data.people.values().map(Vec::len).sum();
        *out += &format!(
            "- {} people with {photos} photos, {} strangers with one each\n- {} faces with age and gender\n\
             - {} pictures of crowds and {} of people with masks, with {} boxes\n",
            data.people.len(),
            data.strangers.len(),
            data.aged.len(),
            data.crowds.len(),
            data.masks.len(),
            data.crowds
                .values()
                .chain(data.masks.values())
                .map(Vec::len)
                .sum::<usize>()
        );
    }
    *out += &format!(
        "- the media of the set-up: {} faces of different people\n\n",
        media.len()
    );

    *out += "## Who\n\n";
    if let Some(data) = data.filter(|data| !data.people.is_empty()) {
        ok &= section("who", out, |out| who::labelled(data, out));
        ok &= section("who, shown in other ways", out, |out| {
            who::labelled_shown(data, out)
        });
    }
    ok &= section("who, media", out, |out| who::media_shown(&media, out));

    *out += "## People\n\n";
    let of_people = data.filter(|data| !data.people.is_empty());
    ok &= section("people in scenes", out, |out| {
        people::scenes(of_people, out)
    });
    if let Some(data) = of_people {
        ok &= section("people on photos", out, |out| people::photos(data, out));
    }

    *out += "## Age and gender\n\n";
    if let Some(data) = data.filter(|data| !data.aged.is_empty()) {
        ok &= section("age and gender", out, |out| ages::labelled(data, out));
    }
    ok &= section("age and gender, media", out, |out| ages::media(&media, out));

    *out += "## Expression\n\n";
    ok &= section("expression", out, |out| expression::labelled(data, out));

    *out += "## Detection\n\n";
    if let Some(data) = data {
        ok &= section("detection", out, |out| detection::labelled(data, out));
    }
    ok &= section("detection, shown in other ways", out, |out| {
        detection::shown(&shown, out)
    });

    *out += "## Pose\n\n";
    ok &= section("pose", out, |out| pose::shown(&shown, out));

    *out += "## Tracks\n\n";
    ok &= section("tracks", out, tracking::crossing);

    *out += "## Models\n\n";
    ok &= section("models", out, cost::models);

    *out += LIMITS;
    print!("{text}");
    std::process::exit(i32::from(!ok))
}
