//! Known faces shown at sizes, blurs, lights and angles: who is still recognised.

use std::path::{Path, PathBuf};

use anyhow::Result;
use face_gallery::Gallery;

use super::{Outcomes, enroll, line, order};
use crate::data::Data;
use crate::line::{middle, parallel};
use crate::portraits::{CONDITIONS, Portrait, of_photos};
use crate::scene::{Shown, compose};
use crate::table::{Table, percent};

/// Known faces shown at sizes, blurs, lights and angles: one gallery of all `known`, made from their
/// `portraits`, and strangers.
fn shown(
    enrolled: &Path,
    known: &[Portrait],
    strangers: &[Portrait],
    totals: &mut Totals,
) -> Result<()> {
    let gallery = Gallery::read(enrolled)?;
    let mut lines = line(enrolled)?;
    for (i, (_, shown)) in CONDITIONS.iter().enumerate() {
        let portraits: Vec<&Portrait> = known.iter().chain(strangers).collect();
        let pictures = parallel(&portraits, |p| compose(&p.picture, &p.rect, *shown).0);
        for (j, faces) in lines.look(&pictures)?.iter().enumerate() {
            let person = known.get(j).map(|portrait| portrait.person.as_str());
            let face = middle(faces, &pictures[j]);
            totals.0[i].add(person, face, &gallery);
        }
    }
    Ok(())
}

/// The outcomes of each condition.
struct Totals(Vec<Outcomes>);

impl Default for Totals {
    fn default() -> Self {
        Self(CONDITIONS.iter().map(|_| Outcomes::default()).collect())
    }
}

impl Totals {
    fn table(&self) -> Table {
        let mut table = Table::new([
            "shown",
            "found %",
            "strangers named %",
            "right names %",
            "wrong names %",
            "ECE of `name_confidence`",
        ]);
        for ((name, _), outcomes) in CONDITIONS.iter().zip(&self.0) {
            let [named, right, wrong, error] = outcomes.cells();
            let found = percent(outcomes.found.value(), 0);
            table.row([(*name).to_owned(), found, named, right, wrong, error]);
        }
        table
    }
}

/// The composites of a folder of labelled pictures: one photo of each person that is not enrolled,
/// and some strangers.
pub fn labelled_shown(data: &Data, out: &mut String) -> Result<()> {
    const STRANGERS: usize = 100;
    let folder = tempfile::tempdir()?;
    let people = folder.path().join("people");
    let mut asked = Vec::new();
    for (person, photos) in order(data) {
        if photos.len() < 4 {
            continue;
        }
        let own = people.join(&person);
        std::fs::create_dir_all(&own)?;
        for photo in &photos[..3] {
            let name = photo.file_name().unwrap_or_default();
            std::os::unix::fs::symlink(photo.canonicalize()?, own.join(name))?;
        }
        asked.push((person, photos[3].clone()));
    }
    let enrolled = folder.path().join("gallery.safetensors");
    enroll(&people, &enrolled)?;
    let (known, lost) = of_photos(&asked, |_| false)?;
    let strangers: Vec<(String, PathBuf)> = data
        .strangers
        .iter()
        .take(STRANGERS)
        .map(|path| (String::new(), path.clone()))
        .collect();
    let (strangers, lost_strangers) = of_photos(&strangers, |_| false)?;
    let plain = |all: Vec<(usize, Portrait)>| all.into_iter().map(|(_, p)| p).collect::<Vec<_>>();
    let (known, strangers) = (plain(known), plain(strangers));
    let mut totals = Totals::default();
    shown(&enrolled, &known, &strangers, &mut totals)?;
    *out += &format!(
        "One more photo of each of {} people, and {} strangers, shown in other ways; three photos each are \
         enrolled as they are ({} photos without a face of 60 pixels are left out). \"Found\" counts both.\n\n{}\n",
        known.len(),
        strangers.len(),
        lost + lost_strangers,
        totals.table()
    );
    Ok(())
}

/// The composites of the media: half of the people are enrolled by the picture itself, the others are
/// strangers, and the other way round.
pub fn media_shown(portraits: &[Portrait], out: &mut String) -> Result<()> {
    let mut totals = Totals::default();
    for turn in 0..2 {
        let folder = tempfile::tempdir()?;
        let halves = portraits.iter().enumerate();
        let (known, strangers): (Vec<_>, Vec<_>) = halves.partition(|(i, _)| i % 2 == turn);
        let plain = |half: Vec<(usize, &Portrait)>| {
            half.into_iter()
                .map(|(_, p)| p.clone())
                .collect::<Vec<Portrait>>()
        };
        let (known, strangers) = (plain(known), plain(strangers));
        let people = folder.path().join("people");
        for portrait in &known {
            let own = people.join(&portrait.person);
            std::fs::create_dir_all(&own)?;
            let shown = Shown {
                height: 160.0,
                ..Shown::PLAIN
            };
            compose(&portrait.picture, &portrait.rect, shown)
                .0
                .save(own.join("1.png"))?;
        }
        let enrolled = folder.path().join("gallery.safetensors");
        enroll(&people, &enrolled)?;
        shown(&enrolled, &known, &strangers, &mut totals)?;
    }
    *out += &format!(
        "{} faces of the media. Half of them are enrolled by this very picture at a height of 160 pixels, \
         the others are strangers; then the other way round.\n\n{}\n",
        portraits.len(),
        totals.table()
    );
    Ok(())
}
