//! What a search found, as one page for a browser.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use askama::Template;
use face_parts::ui;

use super::Search;
use crate::report::media::media;
use crate::report::page::{CSS, policy};
use crate::report::thumbnails::Thumbnails;

#[derive(Template)]
#[template(path = "search.html")]
struct Page<'a> {
    policy: String,
    title: String,
    facts: String,
    css: &'a str,
    photos: Vec<&'a str>,
    hits: Vec<HitView<'a>>,
    more: bool,
}

struct HitView<'a> {
    image: Option<&'a str>,
    title: String,
    /// A reference to the moment in the film.
    link: Option<String>,
    first: String,
    last: String,
    distance: String,
    person: String,
    track: u64,
}

/// Renders the page. References are relative to `output`, where it will be written. Problems with
/// pictures come second.
///
/// # Errors
/// If the path of the page cannot be made absolute.
pub fn render(
    found: &Search,
    photos: &[PathBuf],
    output: &Path,
) -> Result<(String, Option<String>)> {
    let page = std::path::absolute(output)?;
    let folder = page.parent().unwrap_or(Path::new("/"));
    let mut thumbnails = Thumbnails::default();
    let pictures = found.hits.iter().filter_map(|hit| hit.thumbnail.as_ref());
    for path in photos.iter().chain(pictures) {
        thumbnails.add(path);
    }
    let clock = |ns: u64| ui::clock(Duration::from_nanos(ns));
    let hits = found.hits.iter().map(|hit| {
        let media = media(&hit.input, folder);
        // A media fragment: browsers start there.
        let moment = |source: &String| format!("{source}#t={:.3}", hit.first as f64 / 1e9);
        HitView {
            image: thumbnails.get(hit.thumbnail.as_ref()),
            link: media.sources.first().map(moment),
            title: media.title,
            first: clock(hit.first),
            last: clock(hit.last),
            distance: format!("{:.3}", hit.distance),
            person: hit.person.clone().unwrap_or_default(),
            track: hit.track,
        }
    });
    let text = Page {
        policy: policy(),
        title: match photos {
            [photo] => {
                let name = photo.file_name().unwrap_or(photo.as_os_str());
                format!("Search for {}", name.to_string_lossy())
            }
            _ => format!("Search for one person on {} photos", photos.len()),
        },
        facts: format!(
            "{} found among {} in {}, within a cosine distance of {:.3}",
            ui::count(found.hits.len() as u64, "track"),
            found.tracks,
            ui::count(found.films as u64, "film"),
            found.distance_threshold
        ),
        css: CSS,
        photos: photos
            .iter()
            .filter_map(|photo| thumbnails.get(Some(photo)))
            .collect(),
        hits: hits.collect(),
        more: found.more,
    }
    .render()?;
    Ok((text, thumbnails.problem()))
}
