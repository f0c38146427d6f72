//! The confusion matrix as a picture.

use std::f64::consts::FRAC_PI_4;

use anyhow::{Context, Result};
use image::{ExtendedColorType, ImageEncoder};

use super::score::{Answer, Score};

/// The limit of people shown separately; the others are combined.
const MOST: usize = 40;

/// A table of counts. Right answers are on the diagonal.
#[derive(Debug, PartialEq)]
pub struct Matrix {
    rows: Vec<String>,
    columns: Vec<String>,
    /// By row, then column.
    counts: Vec<Vec<u64>>,
    /// Up to here, rows and columns stand for the same people.
    same: usize,
}

impl Matrix {
    /// People are ordered by how often they were labelled, then named. Rows stand for labelled
    /// people, the last one for faces where nobody is labelled. Columns stand for names in the
    /// result, then for faces without a name, then for labels without a face.
    pub fn new(score: &Score) -> Self {
        let mut order: Vec<usize> = (0..score.people.len()).collect();
        order.sort_by_key(|&i| {
            let tally = &score.tallies[i];
            std::cmp::Reverse((tally.boxes, tally.named))
        });
        let shown = order.len().min(MOST);
        let others = shown < order.len();
        let mut place = vec![shown; order.len()];
        for (at, &person) in order[..shown].iter().enumerate() {
            place[person] = at;
        }
        let mut names: Vec<String> = order[..shown]
            .iter()
            .map(|&i| score.people[i].clone())
            .collect();
        if others {
            names.push(format!("{} others", order.len() - shown));
        }
        let same = names.len();
        let (no_name, no_face) = (same, same + 1);
        let mut counts = vec![vec![0; same + 2]; same + 1];
        for ((labelled, answer), count) in &score.answers {
            let row = labelled.map_or(same, |person| place[person]);
            let column = match answer {
                Answer::Name(person) => place[*person],
                Answer::NoName => no_name,
                Answer::NoFace => no_face,
            };
            counts[row][column] += count;
        }
        let mut rows = names.clone();
        rows.push("(nobody)".into());
        let mut columns = names;
        columns.extend(["(no name)".into(), "(not found)".into()]);
        let mut matrix = Self {
            rows,
            columns,
            counts,
            same: if others { shown } else { same },
        };
        matrix.drop_empty();
        matrix
    }

    /// Drops empty rows and columns at the end: people who were never labelled, and answers that
    /// were never given.
    fn drop_empty(&mut self) {
        let row_used: Vec<bool> = self
            .counts
            .iter()
            .map(|row| row.iter().any(|n| *n > 0))
            .collect();
        let column_used: Vec<bool> = (0..self.columns.len())
            .map(|j| j < self.same || self.counts.iter().any(|row| row[j] > 0))
            .collect();
        retain(&mut self.rows, &row_used);
        retain(&mut self.counts, &row_used);
        retain(&mut self.columns, &column_used);
        for row in &mut self.counts {
            retain(row, &column_used);
        }
        // People without labels come last among the people, so this keeps the diagonal.
        self.same = self
            .same
            .min(row_used[..self.same].iter().filter(|u| **u).count());
    }
}

fn retain<T>(list: &mut Vec<T>, kept: &[bool]) {
    let mut kept = kept.iter();
    list.retain(|_| kept.next().is_some_and(|k| *k));
}

const CELL: (f64, f64) = (64.0, 40.0);
const MARGIN: f64 = 24.0;
/// The longest label in pixels; longer ones are cut off at the end.
const LABEL: i32 = 220;
const TITLE: f64 = 58.0;

/// Draws it as a PNG.
pub fn draw(matrix: &Matrix) -> Result<Vec<u8>> {
    // Text is measured before the size is known.
    let scratch = cairo::ImageSurface::create(cairo::Format::ARgb32, 1, 1)?;
    let scratch = cairo::Context::new(&scratch)?;
    let widest = |labels: &[String]| {
        let widths = labels
            .iter()
            .map(|l| f64::from(label(&scratch, l).pixel_size().0));
        widths.fold(40.0, f64::max)
    };
    let (left, slanted) = (widest(&matrix.rows), widest(&matrix.columns));
    let x0 = MARGIN + left + 12.0;
    // Column labels rise to the right at 45 degrees.
    let rise = slanted * FRAC_PI_4.sin() + 16.0;
    let y0 = MARGIN + TITLE + rise;
    let width = (x0 + CELL.0 * matrix.columns.len() as f64 + rise.max(MARGIN)).max(560.0);
    let height = y0 + CELL.1 * matrix.rows.len() as f64 + MARGIN;
    let (width, height) = (width.ceil() as i32, height.ceil() as i32);
    let mut surface = cairo::ImageSurface::create(cairo::Format::Rgb24, width, height)?;
    {
        let cr = cairo::Context::new(&surface)?;
        cr.set_source_rgb(1.0, 1.0, 1.0);
        cr.paint()?;
        draw_titles(&cr, matrix, (x0, y0))?;
        for (i, row) in matrix.counts.iter().enumerate() {
            let total: u64 = row.iter().sum();
            for (j, count) in row.iter().enumerate() {
                let right = i == j && i < matrix.same;
                let corner = (x0 + CELL.0 * j as f64, y0 + CELL.1 * i as f64);
                draw_cell(&cr, corner, *count, total, right)?;
            }
        }
    }
    encode(&mut surface, width as u32, height as u32)
}

fn draw_titles(cr: &cairo::Context, matrix: &Matrix, (x0, y0): (f64, f64)) -> Result<()> {
    cr.set_source_rgb(0.1, 0.1, 0.12);
    let title = layout(cr, "Who was taken for whom", 15.0, true);
    cr.move_to(MARGIN, MARGIN - 6.0);
    pangocairo::functions::show_layout(cr, &title);
    cr.set_source_rgb(0.35, 0.35, 0.4);
    let text = "Rows: who was labelled. Columns: the name in the result.\n\
                Faces, and their share of the row; right answers are blue, wrong ones orange.";
    let explanation = layout(cr, text, 9.5, false);
    cr.move_to(MARGIN, MARGIN + 18.0);
    pangocairo::functions::show_layout(cr, &explanation);

    cr.set_source_rgb(0.1, 0.1, 0.12);
    for (i, name) in matrix.rows.iter().enumerate() {
        let text = label(cr, name);
        let (w, h) = text.pixel_size();
        let y = y0 + CELL.1 * (i as f64 + 0.5) - f64::from(h) / 2.0;
        cr.move_to(x0 - 10.0 - f64::from(w), y);
        pangocairo::functions::show_layout(cr, &text);
    }
    for (j, name) in matrix.columns.iter().enumerate() {
        let text = label(cr, name);
        let (_, h) = text.pixel_size();
        cr.save()?;
        cr.translate(x0 + CELL.0 * (j as f64 + 0.5), y0 - 6.0);
        cr.rotate(-FRAC_PI_4);
        cr.move_to(0.0, -f64::from(h) / 2.0);
        pangocairo::functions::show_layout(cr, &text);
        cr.restore()?;
    }
    Ok(())
}

fn draw_cell(
    cr: &cairo::Context,
    (x, y): (f64, f64),
    count: u64,
    total: u64,
    right: bool,
) -> Result<()> {
    let share = if total > 0 {
        count as f64 / total as f64
    } else {
        0.0
    };
    let full = if right {
        [0.10, 0.38, 0.65]
    } else {
        [0.80, 0.36, 0.05]
    };
    // The square root keeps few faces visible among many.
    let strength = share.sqrt();
    let [r, g, b] = full.map(|c| 1.0 - strength * (1.0 - c));
    cr.rectangle(x, y, CELL.0, CELL.1);
    cr.set_source_rgb(r, g, b);
    cr.fill_preserve()?;
    cr.set_source_rgb(0.85, 0.85, 0.87);
    cr.set_line_width(1.0);
    cr.stroke()?;
    if count == 0 {
        return Ok(());
    }
    // Chooses black or white, whichever is legible.
    if 0.299 * r + 0.587 * g + 0.114 * b < 0.58 {
        cr.set_source_rgb(1.0, 1.0, 1.0);
    } else {
        cr.set_source_rgb(0.1, 0.1, 0.12);
    }
    let percent = 100.0 * share;
    let percent = match percent {
        p if p > 99.0 && count < total => "> 99 %".into(),
        p if p < 1.0 => "< 1 %".into(),
        p => format!("{p:.0} %"),
    };
    for (text, points, middle) in [(count.to_string(), 11.0, 0.34), (percent, 8.0, 0.74)] {
        let text = layout(cr, &text, points, false);
        let (w, h) = text.pixel_size();
        cr.move_to(
            x + (CELL.0 - f64::from(w)) / 2.0,
            y + CELL.1 * middle - f64::from(h) / 2.0,
        );
        pangocairo::functions::show_layout(cr, &text);
    }
    Ok(())
}

/// A name on one line, shortened to [`LABEL`] pixels.
fn label(cr: &cairo::Context, name: &str) -> pango::Layout {
    let clean: String = name
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(400)
        .collect();
    let layout = layout(cr, &clean, 11.0, false);
    layout.set_single_paragraph_mode(true);
    if layout.pixel_size().0 > LABEL {
        layout.set_width(LABEL * pango::SCALE);
        layout.set_ellipsize(pango::EllipsizeMode::End);
    }
    layout
}

fn layout(cr: &cairo::Context, text: &str, points: f64, bold: bool) -> pango::Layout {
    let layout = pangocairo::functions::create_layout(cr);
    let mut font = pango::FontDescription::from_string("sans-serif");
    font.set_size((points * f64::from(pango::SCALE)) as i32);
    if bold {
        font.set_weight(pango::Weight::Bold);
    }
    layout.set_font_description(Some(&font));
    layout.set_text(text);
    layout
}

fn encode(surface: &mut cairo::ImageSurface, width: u32, height: u32) -> Result<Vec<u8>> {
    surface.flush();
    let stride = surface.stride() as usize;
    let data = surface.data().context("the picture is still in use")?;
    let mut rgb = Vec::with_capacity(3 * (width * height) as usize);
    for row in data.chunks_exact(stride) {
        for pixel in row[..4 * width as usize].as_chunks::<4>().0 {
            let [_, r, g, b] = u32::from_ne_bytes(*pixel).to_be_bytes();
            rgb.extend([r, g, b]);
        }
    }
    let mut png = Vec::new();
    image::codecs::png::PngEncoder::new(&mut png).write_image(
        &rgb,
        width,
        height,
        ExtendedColorType::Rgb8,
    )?;
    Ok(png)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::evaluate::score::Tally;

    fn score(boxes: &[u64], answers: &[(Option<usize>, Answer, u64)]) -> Score {
        Score {
            people: (0..boxes.len()).map(|i| format!("p{i}")).collect(),
            tallies: boxes
                .iter()
                .map(|boxes| Tally {
                    boxes: *boxes,
                    ..Default::default()
                })
                .collect(),
            answers: answers
                .iter()
                .map(|(l, a, n)| ((*l, *a), *n))
                .collect::<BTreeMap<_, _>>(),
            ..Default::default()
        }
    }

    #[test]
    fn most_labelled_first_and_nothing_empty() {
        let matrix = Matrix::new(&score(
            &[2, 9, 0],
            &[
                (Some(0), Answer::Name(0), 2),
                (Some(1), Answer::Name(1), 5),
                (Some(1), Answer::Name(2), 3),
                (Some(1), Answer::NoFace, 1),
                (None, Answer::Name(0), 4),
            ],
        ));
        assert_eq!(matrix.rows, ["p1", "p0", "(nobody)"]);
        assert_eq!(matrix.columns, ["p1", "p0", "p2", "(not found)"]);
        assert_eq!(
            matrix.counts,
            [[5, 0, 3, 1], [0, 2, 0, 0], [0, 4, 0, 0]].map(|r| r.to_vec())
        );
        assert_eq!(matrix.same, 2);
    }

    #[test]
    fn many_people_are_put_together() {
        let boxes: Vec<u64> = (1..=100).rev().collect();
        let answers: Vec<_> = (0..100)
            .map(|i| (Some(i), Answer::Name(i), boxes[i]))
            .collect();
        let matrix = Matrix::new(&score(&boxes, &answers));
        assert_eq!(matrix.rows.len(), MOST + 1);
        assert_eq!(matrix.rows[MOST], "60 others");
        assert_eq!(matrix.counts[MOST][MOST], (1..=60).sum::<u64>());
        assert_eq!(matrix.same, MOST);
        assert!(draw(&matrix).is_ok());
    }

    #[test]
    fn any_name_can_be_drawn() {
        let mut odd = score(&[1, 1], &[(Some(0), Answer::Name(1), u64::MAX)]);
        odd.people = vec!["<b>\0\n\u{202E}李雷".repeat(1000), String::new()];
        assert!(draw(&Matrix::new(&odd)).is_ok());
        assert!(draw(&Matrix::new(&score(&[], &[]))).is_ok());
    }
}
