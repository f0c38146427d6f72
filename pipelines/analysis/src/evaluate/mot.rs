//! Reads MOTChallenge text: `frame, id, x, y, w, h, flag, class, visibility`, with frames and
//! pixels counted from 1.

use std::collections::HashMap;
use std::io::BufRead;

use anyhow::{Context, Result, bail, ensure};
use face_meta::geometry::Rect;

use super::input::Pieces;
use super::truth::{Builder, LAST_FRAME, Segment, Truth};

/// Reads labels. A line with the flag 0 (column 7) does not count. Commas or blanks separate columns.
pub fn read(input: impl BufRead, names: &HashMap<String, String>) -> Result<Truth> {
    let mut input = Pieces::new(input);
    let mut builder = Builder::new(names);
    // The track of each id, and the frames on which it has a box; in most files they ascend.
    let mut tracks: HashMap<i64, u32> = HashMap::new();
    let mut lines: Vec<(u64, u32, u64)> = Vec::new();
    let mut text = Vec::new();
    loop {
        let line = input.line();
        input.start_piece();
        text.clear();
        let read = input.read_until(b'\n', &mut text);
        if read.with_context(|| format!("line {line}"))? == 0 {
            break;
        }
        let parsed = parse(&text).with_context(|| format!("line {line}"))?;
        let Some((frame, id, rect)) = parsed else {
            continue;
        };
        let track = *tracks
            .entry(id)
            .or_insert_with(|| builder.add_track(&id.to_string()));
        lines.push((frame, track, line));
        builder
            .add(Segment {
                track,
                first: frame,
                last: frame,
                rect,
                change: Rect::default(),
                age: None,
                gender: None,
                expression: None,
            })
            .with_context(|| format!("line {line}"))?;
    }
    lines.sort_unstable();
    for pair in lines.windows(2) {
        if pair[0].0 == pair[1].0 && pair[0].1 == pair[1].1 {
            let (a, b) = (pair[0].2, pair[1].2);
            bail!("line {b}: the id already has a box on this frame, on line {a}");
        }
    }
    builder.finish()
}

/// The frame from 0, the id, and the box relative to the corner (0, 0). `None` for a line that does
/// not count.
fn parse(line: &[u8]) -> Result<Option<(u64, i64, Rect)>> {
    let line = std::str::from_utf8(line).context("it is neither XML nor UTF-8 text")?;
    let line = line.strip_prefix('\u{FEFF}').unwrap_or(line).trim();
    if line.is_empty() {
        return Ok(None);
    }
    let mut numbers = [0.0; 10];
    let mut count = 0;
    let fields: Vec<&str> = if line.contains(',') {
        line.split(',').collect()
    } else {
        line.split_whitespace().collect()
    };
    ensure!(
        (6..=numbers.len()).contains(&fields.len()),
        "expected 6 to 10 numbers (frame, id, x, y, width, height, flag, class, visibility), \
         found {}; supported are CVAT for video XML and MOTChallenge text",
        fields.len()
    );
    for field in fields {
        let number = field.trim().parse::<f64>().ok().filter(|n| n.is_finite());
        numbers[count] = number.with_context(|| {
            let shown: String = field.trim().chars().take(40).collect();
            format!("{shown:?}, column {}, is not a number", count + 1)
        })?;
        count += 1;
    }
    let [frame, id, x, y, w, h, flag, ..] = numbers;
    ensure!(
        frame.fract() == 0.0 && (1.0..=LAST_FRAME as f64).contains(&frame),
        "{frame} is not a frame: they count from 1"
    );
    ensure!(
        id.fract() == 0.0 && id.abs() < 1e15,
        "{id} is not an id: those are integers"
    );
    if count > 6 && flag == 0.0 {
        return Ok(None);
    }
    ensure!(w > 0.0 && h > 0.0, "a box of {w} x {h} pixels is empty");
    // Pixels count from 1 as well.
    Ok(Some((
        frame as u64 - 1,
        id as i64,
        Rect::new(x - 1.0, y - 1.0, w, h),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Truth> {
        read(text.as_bytes(), &HashMap::new())
    }

    #[test]
    fn both_separators_are_read() {
        let comma = "1,7,11,21,30,40,1,1,0.5\n2,7,12,21,30,40,1,-1,-1,-1\n\n1,-3,5,5,2,2\n";
        let truth = read_text(comma).expect("valid");
        assert_eq!(truth.people, ["7", "-3"]);
        let blanks = "\u{FEFF}1 7 11 21 30 40 1 1 0.5\r\n2  7 12 21 30 40 1\n1 -3 5 5 2 2";
        assert_eq!(read_text(blanks).expect("valid"), truth);
        let mut labels = Vec::new();
        truth.sweep().at(0, &mut labels);
        assert_eq!(labels[0].rect, Rect::new(10.0, 20.0, 30.0, 40.0));
        assert_eq!(labels[1].rect, Rect::new(4.0, 4.0, 2.0, 2.0));
    }

    #[test]
    fn lines_flagged_with_0_do_not_count() {
        let truth = read_text("1,1,1,1,5,5,0,1,1\n1,2,1,1,5,5,1,1,1\n").expect("valid");
        assert_eq!(truth.people, ["2"]);
    }

    #[test]
    fn broken_lines_are_named() {
        for (text, what) in [
            ("1,1,1,1,5,5\n1,1,1,1", "line 2: expected 6 to 10 numbers"),
            ("1,1,1,1,5,5\n1,1,1,1,x,5", "line 2: \"x\", column 5"),
            ("1,1,nan,1,5,5", "line 1: \"nan\", column 3"),
            ("0,1,1,1,5,5", "line 1: 0 is not a frame"),
            ("1.5,1,1,1,5,5", "line 1: 1.5 is not a frame"),
            ("1e9,1,1,1,5,5", "line 1: 1000000000 is not a frame"),
            ("1,1.5,1,1,5,5", "line 1: 1.5 is not an id"),
            ("1,1,1,1,0,5", "line 1: a box of 0 x 5"),
            (
                "1,1,1,1,5,5\n2,1,1,1,5,5\n1,1,2,2,5,5",
                "line 3: the id already has a box on this frame, on line 1",
            ),
            ("", "no labelled box"),
            ("{\"type\":\"frame\"}", "line 1: expected 6 to 10 numbers"),
        ] {
            let error = format!("{:#}", read_text(text).expect_err(text));
            assert!(error.contains(what), "{text}: {error}");
        }
        let error = read(&b"1,1,1,1,5,5\n\xFF\xFE"[..], &HashMap::new()).expect_err("no UTF-8");
        assert!(format!("{error:#}").contains("line 2: it is neither"));
        let endless = vec![b'1'; 3 << 20];
        let error = read(endless.as_slice(), &HashMap::new()).expect_err("no end");
        assert!(
            format!("{error:#}").contains("line 1: it does not end"),
            "{error:#}"
        );
    }
}
