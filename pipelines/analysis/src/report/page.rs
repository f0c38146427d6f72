//! Fills texts and references into the template, which escapes them.

mod company;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use askama::Template;
use serde::Serialize;
use sha2::{Digest, Sha256};

use self::company::{Graph, graph};
use super::media::{self, Media, media};
use super::model::{self, Identity, Report, Row, Stranger, Totals};
use super::thumbnails::Thumbnails;
use crate::record;
use face_parts::ui;

pub const CSS: &str = include_str!("../../templates/report.css");
const JS: &str = include_str!("../../templates/report.js");

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    policy: String,
    title: String,
    facts: String,
    css: &'a str,
    js: &'a str,
    problems: &'a [String],
    has_several: bool,
    videos: Vec<InputView<'a>>,
    pictures: Vec<InputView<'a>>,
    ranking: Vec<RankedView<'a>>,
    company: Option<Graph<'a>>,
    strangers: Vec<StrangerView<'a>>,
    has_unknown: bool,
    has_clusters: bool,
    loose: String,
    group_command: Option<String>,
}

/// A link to an input.
struct Place {
    id: String,
    title: String,
}

struct Cells {
    screen_time: String,
    share: String,
    tracks: usize,
    /// How sure the name is.
    sure: String,
    age: String,
    gender: String,
    /// Age and gender combined.
    about: String,
}

struct InputView<'a> {
    id: String,
    title: String,
    place: String,
    length: String,
    facts: String,
    sources: Vec<String>,
    is_still: bool,
    rows: Vec<RowView<'a>>,
    company: Option<Graph<'a>>,
    /// Whether any row has one.
    has_expressions: bool,
    data: String,
}

struct RowView<'a> {
    label: String,
    named: bool,
    is_track: bool,
    image: Option<&'a str>,
    cells: Cells,
    first: String,
    last: String,
    /// What was seen how often.
    expressions: String,
}

struct RankedView<'a> {
    label: String,
    named: bool,
    image: Option<&'a str>,
    cells: Cells,
    inputs: Vec<Place>,
}

struct StrangerView<'a> {
    label: &'a str,
    facts: String,
    inputs: Vec<Place>,
    images: Vec<Option<&'a str>>,
    sheet: Option<String>,
    command_id: String,
    command: String,
    /// What the command does.
    what: String,
}

/// The data that the script draws, in milliseconds.
#[derive(Serialize)]
struct Timeline {
    duration: u64,
    /// For each row: first, last, first, last, …
    rows: Vec<Vec<u64>>,
    /// The words that `moods` refers to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    expressions: Vec<String>,
    /// For each row: first, last, index of the expression, first, …
    #[serde(skip_serializing_if = "Vec::is_empty")]
    moods: Vec<Vec<u64>>,
}

/// Renders the page with `results`. Its references are relative to `output`, where it will be written.
pub fn render(
    report: &Report,
    thumbnails: &Thumbnails,
    problems: &[String],
    results: &Path,
    output: &Path,
) -> Result<String> {
    let page = std::path::absolute(output)?;
    let folder = page.parent().unwrap_or(Path::new("/"));
    let shown = results;
    let results = std::path::absolute(results)?;
    let media: Vec<Media> = report
        .inputs
        .iter()
        .map(|input| media(&input.source, folder))
        .collect();
    let places = |inputs: &[usize]| -> Vec<Place> {
        let place = |i: &usize| Place {
            id: input_id(*i),
            title: media[*i].title.clone(),
        };
        inputs.iter().map(place).collect()
    };

    let inputs = report.inputs.iter().zip(&media).enumerate();
    let inputs = inputs
        .map(|(i, (input, media))| input_view(i, input, media, thumbnails))
        .collect::<Result<Vec<InputView>>>()?;
    let (pictures, videos) = inputs.into_iter().partition(|input| input.is_still);
    let ranking = report.ranking.iter().map(|person| RankedView {
        label: person.identity.label(),
        named: person.identity.is_named(),
        image: thumbnails.get(person.thumbnail.as_ref()),
        cells: Cells::new(&person.totals),
        inputs: places(&person.inputs),
    });
    let strangers = report.strangers.iter().enumerate().map(|(i, stranger)| {
        let sheet = stranger.sheet.as_ref().filter(|path| path.is_file());
        let sheet = sheet.and_then(|path| std::path::absolute(path).ok());
        StrangerView {
            label: &stranger.id,
            facts: stranger_facts(stranger),
            inputs: places(&stranger.inputs),
            images: stranger
                .thumbnails
                .iter()
                .map(|path| thumbnails.get(Some(path)))
                .collect(),
            sheet: sheet.map(|path| media::escape(&media::relative(&path, folder))),
            command_id: format!("command-{}", i + 1),
            command: naming_command(shown, &stranger.id),
            what: format!("names {}", stranger.id),
        }
    });

    let page = Page {
        policy: policy(),
        title: results
            .file_name()
            .map_or("/".into(), |name| name.to_string_lossy().into_owned()),
        facts: facts(report),
        css: CSS,
        js: JS,
        problems,
        has_several: report.inputs.len() > 1,
        videos,
        pictures,
        ranking: ranking.collect(),
        company: graph("all".into(), &report.company, thumbnails, Some(&places)),
        strangers: strangers.collect(),
        has_unknown: !report.strangers.is_empty() || report.local + report.loose > 0,
        has_clusters: report.has_clusters,
        loose: ungrouped(report),
        group_command: (report.local + report.loose > 0).then(|| grouping_command(shown)),
    };
    page.render().context("the page cannot be created")
}

fn input_id(index: usize) -> String {
    format!("input-{}", index + 1)
}

fn input_view<'a>(
    index: usize,
    input: &'a model::Input,
    media: &Media,
    thumbnails: &'a Thumbnails,
) -> Result<InputView<'a>> {
    let is_still = input.end_ns == 0;
    let length = match is_still {
        true => "picture".into(),
        false => clock(input.duration_ns),
    };
    let mut facts = format!("{length}, {} × {}", input.width, input.height);
    if !is_still {
        facts += &format!(", {}", ui::count(input.frames, "frame"));
    }
    let expressions = expressions(&input.rows);
    let has_expressions = !expressions.is_empty();
    let timeline = Timeline {
        duration: milliseconds(input.end_ns).max(1),
        rows: input.rows.iter().map(flat).collect(),
        moods: match has_expressions {
            true => input
                .rows
                .iter()
                .map(|row| moods(row, &expressions))
                .collect(),
            false => Vec::new(),
        },
        expressions,
    };
    let mut rows: Vec<RowView> = input.rows.iter().map(|r| row_view(r, thumbnails)).collect();
    // The number of a track means nothing in a picture.
    for row in rows.iter_mut().filter(|row| is_still && row.is_track) {
        row.label = record::UNKNOWN.into();
    }
    Ok(InputView {
        id: input_id(index),
        title: media.title.clone(),
        place: media.place.clone(),
        length,
        facts,
        sources: media.sources.clone(),
        is_still,
        rows,
        company: graph(input_id(index), &input.company, thumbnails, None),
        has_expressions,
        data: script_safe(&serde_json::to_string(&timeline)?),
    })
}

fn row_view<'a>(row: &Row, thumbnails: &'a Thumbnails) -> RowView<'a> {
    let at = |time: Option<u64>| time.map_or("–".into(), clock);
    RowView {
        label: row.identity.label(),
        named: row.identity.is_named(),
        is_track: matches!(row.identity, Identity::Track(_)),
        image: thumbnails.get(row.thumbnail.as_ref()),
        cells: Cells::new(&row.totals),
        first: at(row.spans.first().map(|span| span[0])),
        last: at(row.spans.last().map(|span| span[1])),
        expressions: shares(row),
    }
}

impl Cells {
    fn new(totals: &Totals) -> Self {
        let age = totals.age.map(|age| format!("{age:.0}"));
        let gender = totals.gender.as_ref().map(|(gender, confidence)| {
            let sure = confidence.map(|c| format!(" ({})", percent(c)));
            (gender, sure.unwrap_or_default())
        });
        let about: Vec<String> = gender
            .iter()
            .map(|(gender, _)| gender.to_string())
            .chain(age.iter().map(|age| format!("about {age}")))
            .collect();
        let none = || "–".to_owned();
        Self {
            screen_time: totals
                .share
                .map_or_else(none, |_| clock(totals.screen_time_ns)),
            share: totals
                .share
                .map_or_else(none, |share| format!("{:.1} %", 100.0 * share)),
            tracks: totals.tracks,
            sure: totals.name_confidence.map_or_else(none, percent),
            age: age.unwrap_or_else(none),
            gender: gender.map_or_else(none, |(gender, sure)| format!("{gender}{sure}")),
            about: about.join(", "),
        }
    }
}

/// A probability. What is not certain is not said to be.
fn percent(probability: f64) -> String {
    format!("{:.0} %", (100.0 * probability).min(99.0))
}

fn facts(report: &Report) -> String {
    let whole = report.inputs.iter().map(|input| input.duration_ns);
    let whole = whole.fold(0, u64::saturating_add);
    let named = report.people() - report.strangers.len() - report.local;
    let mut facts = vec![ui::count(report.inputs.len() as u64, "input")];
    if whole > 0 {
        facts.push(format!("{} of video", clock(whole)));
    }
    facts.push(format!("{} named", ui::count(named as u64, "person")));
    if !report.strangers.is_empty() {
        facts.push(unknown_people(report.strangers.len()));
    }
    if report.local + report.loose > 0 {
        facts.push(format!("{} in no group", ungrouped(report)));
    }
    facts.join(", ")
}

fn unknown_people(count: usize) -> String {
    ui::count(count as u64, "unknown person").replace("unknown persons", "unknown people")
}

/// Those in no group: `2 unknown people and 1 unknown track`.
fn ungrouped(report: &Report) -> String {
    let loose = ui::count(report.loose as u64, "unknown track");
    match (report.local, report.loose) {
        (0, _) => loose,
        (local, 0) => unknown_people(local),
        (local, _) => format!("{} and {loose}", unknown_people(local)),
    }
}

fn stranger_facts(stranger: &Stranger) -> String {
    let cells = Cells::new(&stranger.totals);
    let mut facts = Vec::new();
    if stranger.totals.screen_time_ns > 0 {
        facts.push(format!("{} on screen", cells.screen_time));
    }
    facts.push(ui::count(stranger.totals.tracks as u64, "track"));
    if !cells.about.is_empty() {
        facts.push(cells.about);
    }
    facts.join(", ")
}

fn clock(ns: u64) -> String {
    ui::clock(Duration::from_nanos(ns))
}

fn milliseconds(ns: u64) -> u64 {
    ns / 1_000_000
}

fn flat(row: &Row) -> Vec<u64> {
    row.spans
        .iter()
        .flatten()
        .copied()
        .map(milliseconds)
        .collect()
}

/// The expressions on these rows, by name.
fn expressions(rows: &[Row]) -> Vec<String> {
    let spans = rows.iter().flat_map(|row| &row.expressions);
    let names: BTreeSet<&String> = spans.map(|span| &span.expression).collect();
    names.into_iter().cloned().collect()
}

fn moods(row: &Row, expressions: &[String]) -> Vec<u64> {
    row.expressions
        .iter()
        .flat_map(|span| {
            let index = expressions.partition_point(|e| *e < span.expression);
            [
                milliseconds(span.first),
                milliseconds(span.last),
                index as u64,
            ]
        })
        .collect()
}

/// The share of each expression in the time with one, the largest first.
fn shares(row: &Row) -> String {
    let mut times: BTreeMap<&str, u64> = BTreeMap::new();
    for span in &row.expressions {
        // A span of one frame lasts, too.
        let lasted = span.last.saturating_sub(span.first).max(1_000_000);
        let time = times.entry(&span.expression).or_default();
        *time = time.saturating_add(lasted);
    }
    let all = times.values().copied().fold(0, u64::saturating_add) as f64;
    let mut times: Vec<_> = times.into_iter().collect();
    times.sort_by_key(|(name, time)| (Reverse(*time), *name));
    let shown: Vec<String> = times
        .iter()
        .map(|(name, time)| format!("{name} {:.0} %", 100.0 * *time as f64 / all))
        .filter(|text| !text.ends_with(" 0 %"))
        .collect();
    match shown.is_empty() {
        true => "–".into(),
        false => shown.join(", "),
    }
}

/// JSON in which no text can end the script element.
fn script_safe(json: &str) -> String {
    json.replace('<', "\\u003c")
}

/// Permits nothing from the network, and only the page's own scripts and styles. Videos and
/// pictures may come from files.
pub fn policy() -> String {
    let hash = |text: &str| {
        let hash = Sha256::digest(text.as_bytes());
        format!("'sha256-{}'", glib::base64_encode(&hash))
    };
    format!(
        "default-src 'none'; script-src {}; style-src {}; img-src data: 'self' file:; \
         media-src 'self' file:; base-uri 'none'; form-action 'none'",
        hash(JS),
        hash(CSS)
    )
}

fn naming_command(results: &Path, id: &str) -> String {
    format!(
        "facepipe enroll --from-clusters {} {} -o GALLERY",
        quote_path(results),
        quote(&format!("{id}=NAME"))
    )
}

fn grouping_command(results: &Path) -> String {
    format!("facepipe cluster {}", quote_path(results))
}

/// A path as an argument of a shell command, never mistaken for an option.
fn quote_path(path: &Path) -> String {
    let text = path.display().to_string();
    match text.starts_with('-') {
        true => quote(&format!("./{text}")),
        false => quote(&text),
    }
}

/// Quotes a text as one word of a shell command.
fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_quoted_for_a_shell() {
        let dir = Path::new("/my films/it's");
        assert_eq!(
            naming_command(dir, "stranger-1"),
            r"facepipe enroll --from-clusters '/my films/it'\''s' stranger-1=NAME -o GALLERY"
        );
        assert_eq!(grouping_command(Path::new("-x")), "facepipe cluster ./-x");
        for text in [
            "a b", "it's", "$(id)", "`id`", "a\nb", "", "é\\", "a;b", "~", "!x",
        ] {
            let output = std::process::Command::new("sh")
                .arg("-c")
                .arg(format!("printf %s {}", quote(text)))
                .output()
                .expect("a shell");
            assert_eq!(String::from_utf8_lossy(&output.stdout), text);
        }
    }

    #[test]
    fn expressions_have_shares_and_places() {
        let span = |expression: &str, first: u64, last: u64| record::ExpressionSpan {
            expression: expression.into(),
            first: first * 1_000_000,
            last: last * 1_000_000,
        };
        let row = Row {
            identity: Identity::Track(1),
            totals: Totals::default(),
            spans: Vec::new(),
            expressions: vec![
                span("neutral", 0, 300),
                span("happy", 400, 1000),
                span("neutral", 1100, 1200),
            ],
            thumbnail: None,
        };
        assert_eq!(shares(&row), "happy 60 %, neutral 40 %");
        let names = expressions(std::slice::from_ref(&row));
        assert_eq!(names, ["happy", "neutral"]);
        assert_eq!(
            moods(&row, &names),
            [0, 300, 1, 400, 1000, 0, 1100, 1200, 1]
        );
        let none = Row {
            expressions: Vec::new(),
            ..row
        };
        assert_eq!(shares(&none), "–");
    }

    #[test]
    fn data_cannot_end_its_script() {
        assert_eq!(script_safe("[\"</script>\"]"), "[\"\\u003c/script>\"]");
    }
}
