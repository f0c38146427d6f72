//! The texts and numbers of a graph of who was with whom.

use super::{Place, clock};
use crate::report::company::{Company, Pair};
use crate::report::thumbnails::Thumbnails;

/// The space around the circle for pictures and names, in pixels.
const MARGIN: [f64; 2] = [64.0, 48.0];

/// The longest name below a picture; the table has the whole one.
const LONGEST_LABEL: usize = 13;

/// How wide the lines are, in pixels, and how opaque: a little time together is hardly to be seen among
/// much.
const WIDTHS: [f64; 2] = [1.0, 9.0];
const OPACITIES: [f64; 2] = [0.14, 0.7];

/// A graph.
pub struct Graph<'a> {
    pub id: String,
    pub width: String,
    pub height: String,
    /// The origin is in the middle.
    pub view: String,
    /// What a screen reader says.
    pub label: String,
    /// How many people and pairs the graph does not show.
    pub note: Option<String>,
    pub lines: Vec<LineView>,
    pub members: Vec<MemberView<'a>>,
    pub rows: Vec<PairView<'a>>,
    pub has_times: bool,
    pub has_inputs: bool,
}

pub struct LineView {
    pub path: String,
    pub width: String,
    pub opacity: String,
    pub members: [usize; 2],
    pub title: String,
}

pub struct MemberView<'a> {
    pub x: String,
    pub y: String,
    /// Where the name is, from the middle of the picture: outside, where no lines are.
    pub name_y: i32,
    pub label: &'a str,
    pub short: String,
    pub named: bool,
    pub image: Option<&'a str>,
}

/// A row of the table.
pub struct PairView<'a> {
    pub people: [(&'a str, bool); 2],
    pub time: String,
    pub first: String,
    pub last: String,
    pub inputs: Vec<Place>,
}

/// Links to inputs, by their numbers.
type Places<'a> = &'a dyn Fn(&[usize]) -> Vec<Place>;

/// `None` if nobody was with anybody. `places` makes links to several inputs; with one, the table has
/// times instead.
pub fn graph<'a>(
    id: String,
    company: &'a Company,
    thumbnails: &'a Thumbnails,
    places: Option<Places<'_>>,
) -> Option<Graph<'a>> {
    let strongest = company.pairs.first()?;
    let [x, y] = MARGIN.map(|margin| company.radius + margin);
    let has_times = strongest.time_ns > 0;
    let pair_label = |pair: &Pair| {
        let [a, b] = pair.members.map(|i| &company.members[i].label);
        match has_times {
            true => format!("{a} and {b}: {}", clock(pair.time_ns)),
            false => format!("{a} and {b}"),
        }
    };
    let strength = |pair: &Pair| match has_times {
        true => pair.time_ns as f64 / strongest.time_ns as f64,
        false => pair.inputs.len() as f64 / strongest.inputs.len().max(1) as f64,
    };
    let line = |pair: &Pair| LineView {
        path: path(pair.members.map(|i| company.members[i].place)),
        width: format!("{:.1}", between(WIDTHS, strength(pair))),
        opacity: format!("{:.2}", between(OPACITIES, strength(pair))),
        members: pair.members,
        title: pair_label(pair),
    };
    let members = company.members.iter().map(|member| MemberView {
        x: format!("{:.1}", member.place[0]),
        y: format!("{:.1}", member.place[1]),
        name_y: if member.place[1] < -1.0 { -31 } else { 38 },
        label: &member.label,
        short: short(&member.label),
        named: member.named,
        image: thumbnails.get(member.thumbnail.as_ref()),
    });
    let row = |pair: &Pair| PairView {
        people: pair.members.map(|i| {
            let member = &company.members[i];
            (member.label.as_str(), member.named)
        }),
        time: clock(pair.time_ns),
        first: clock(pair.first),
        last: clock(pair.last),
        inputs: places.map_or_else(Vec::new, |places| places(&pair.inputs)),
    };
    let longest: Vec<String> = company.pairs.iter().take(3).map(pair_label).collect();
    let [people, pairs] = company.left_out;
    Some(Graph {
        id,
        width: format!("{:.0}", 2.0 * x),
        height: format!("{:.0}", 2.0 * y),
        view: format!("{:.0} {:.0} {:.0} {:.0}", -x, -y, 2.0 * x, 2.0 * y),
        label: format!(
            "A graph of {} people. Longest together: {}. The table below has all.",
            company.members.len(),
            longest.join("; ")
        ),
        note: (people + pairs > 0).then(|| {
            format!(
                "Shown are the {} people longest in company, and {} of their pairs.",
                company.members.len(),
                company.pairs.len()
            )
        }),
        // The strongest lie on top.
        lines: company.pairs.iter().rev().map(line).collect(),
        members: members.collect(),
        rows: company.pairs.iter().map(row).collect(),
        has_times,
        has_inputs: places.is_some(),
    })
}

/// A line between two places, bent towards the centre, so that lines between neighbours lie apart.
fn path([[x1, y1], [x2, y2]]: [[f64; 2]; 2]) -> String {
    let (x, y) = ((x1 + x2) / 4.0, (y1 + y2) / 4.0);
    format!("M{x1:.1} {y1:.1}Q{x:.1} {y:.1} {x2:.1} {y2:.1}")
}

fn between([least, most]: [f64; 2], share: f64) -> f64 {
    least + (most - least) * share
}

fn short(label: &str) -> String {
    match label.chars().count() > LONGEST_LABEL {
        true => label.chars().take(LONGEST_LABEL - 1).chain(['…']).collect(),
        false => label.to_owned(),
    }
}
