//! Exact search in large galleries compared with `faiss-cpu` (IndexFlatIP) and `usearch` (exact),
//! both from pip (`peers/gallery_peers.py`): the same synthetic embeddings, one query at a time on
//! one thread, in turn. Also measures a gallery's memory and loading time.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use face_benches::{Random, median, time};
use face_gallery::vote::{Rule, who};
use face_gallery::{Gallery, ModelId, Row};
use face_tests::root;
use serde_json::Value;

const DIMENSIONS: usize = 128;
const NEIGHBORS: usize = 6;
const ROUNDS: usize = 5;
const LOADS: usize = 7;
/// Rows, people and queries.
const SIZES: [(usize, usize, usize); 3] = [
    (10_000, 500, 200),
    (100_000, 1000, 200),
    (1_000_000, 1000, 64),
];
/// The distance of a photo from its person's centre. With this value, photos of one person have a
/// cosine similarity of 0.6.
const NOISE: f32 = 0.8;

/// A gallery, and faces of its people that are not in it.
fn data(rows: usize, people: usize, queries: usize) -> (Gallery, Vec<Vec<f32>>) {
    let mut random = Random(rows as u64);
    let centres: Vec<Vec<f32>> = (0..people).map(|_| random.vector(DIMENSIONS)).collect();
    let model = ModelId {
        name: "synthetic".into(),
        sha256: "00".repeat(32),
    };
    let mut gallery = Gallery::new(model, DIMENSIONS);
    for i in 0..rows {
        let person = i * people / rows;
        let row = Row {
            person: format!("person {person}"),
            source: format!("person {person}/{i}.jpg"),
        };
        assert!(gallery.push(row, &random.around(&centres[person], NOISE)));
    }
    let queries = (0..queries)
        .map(|i| random.around(&centres[i * 7919 % people], NOISE))
        .collect();
    (gallery, queries)
}

fn write_raw<R: AsRef<[f32]>>(path: &Path, rows: impl Iterator<Item = R>) {
    let file = std::fs::File::create(path).expect("a temporary file");
    let mut writer = std::io::BufWriter::new(file);
    for row in rows {
        let bytes: Vec<u8> = row.as_ref().iter().flat_map(|v| v.to_le_bytes()).collect();
        writer.write_all(&bytes).expect("writable");
    }
    writer.flush().expect("writable");
}

/// Resident memory in MB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok())
        .map_or(f64::NAN, |kb| kb / 1024.0)
}

/// The process that runs the peers.
struct Peers {
    process: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    about: Value,
}

impl Peers {
    /// `None` if they are not installed.
    fn start(rows: &Path, queries: &Path) -> Option<Self> {
        let python = std::env::var_os("FACE_BENCH_PYTHON").unwrap_or("python3".into());
        let mut process = Command::new(python)
            .arg(root().join("benches/peers/gallery_peers.py"))
            .args([rows, queries])
            .args(["--neighbors", &NEIGHBORS.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let (ask, answers) = (process.stdin.take()?, process.stdout.take()?);
        let mut peers = Self {
            process,
            ask,
            answers: BufReader::new(answers),
            about: Value::Null,
        };
        peers.about = peers.line()?;
        Some(peers)
    }

    fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.answers.read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }

    /// The times of all queries, and the nearest row for each.
    fn run(&mut self, name: &str) -> Option<(Vec<Duration>, Vec<u64>)> {
        writeln!(self.ask, "{name}").ok()?;
        let answer = self.line()?;
        let times = answer["ms"].as_array()?.iter().filter_map(Value::as_f64);
        let nearest = answer["nearest"].as_array()?;
        Some((
            times.map(|ms| Duration::from_secs_f64(ms / 1e3)).collect(),
            nearest.iter().filter_map(Value::as_u64).collect(),
        ))
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // It ends when its input does. If it is gone, there is nothing left to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn ours(gallery: &Gallery, queries: &[Vec<f32>]) -> (Vec<Duration>, Vec<u64>) {
    let mut nearest = Vec::new();
    let times = queries
        .iter()
        .map(|query| {
            time(|| {
                let found = gallery.nearest(query, NEIGHBORS);
                nearest.push(found[0].row as u64);
            })
        })
        .collect();
    (times, nearest)
}

fn main() {
    println!(
        "exact search for the {NEIGHBORS} nearest of {DIMENSIONS} dimensions, one query at a time, 1 thread, \
         medians of {ROUNDS} rounds in turn"
    );
    println!(
        "{:>9} {:>9} {:>9} {:>10} {:>6} {:>11} {:>13} {:>17} {:>9} {:>9}",
        "rows",
        "ours ms",
        "faiss ms",
        "usearch ms",
        "ratio",
        "searched MB",
        "(RSS MB)",
        "nearest as faiss",
        "load ms",
        "name ms"
    );
    let mut versions = None;
    for (rows, people, count) in SIZES {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        let (made, queries) = data(rows, people, count);
        made.write(&path("gallery")).expect("writable");
        write_raw(&path("rows"), (0..rows).map(|row| made.embedding(row)));
        write_raw(&path("queries"), queries.iter().map(Vec::as_slice));
        drop(made);

        let read = || Gallery::read(&path("gallery")).expect("just written");
        let before = resident();
        let gallery = read();
        let _ = ours(&gallery, &queries[..1]);
        let grown = resident() - before;
        let mut loads: Vec<Duration> = (0..LOADS).map(|_| time(|| drop(read()))).collect();

        // Naming looks at more images than the search that is compared.
        let rule = Rule {
            false_name_rate: 0.001,
            distance_threshold: None,
            strangers: None,
            fallback: 0.5,
        };
        let name = |query: &Vec<f32>| time(|| drop(who(&gallery, query, &rule)));
        let mut named: Vec<Duration> = queries.iter().map(name).collect();

        let mut peers = Peers::start(&path("rows"), &path("queries"));
        let (mut mine, mut faiss, mut usearch) = (Vec::new(), Vec::new(), Vec::new());
        let mut same = None;
        for _ in 0..ROUNDS {
            let (times, nearest) = ours(&gallery, &queries);
            mine.extend(times);
            let Some(peers) = &mut peers else { continue };
            if let Some((times, theirs)) = peers.run("faiss") {
                faiss.extend(times);
                same = Some(nearest.iter().zip(&theirs).filter(|(a, b)| a == b).count());
            }
            usearch.extend(
                peers
                    .run("usearch")
                    .map(|(times, _)| times)
                    .into_iter()
                    .flatten(),
            );
        }
        let megabytes = |bytes: f64| bytes / f64::from(1 << 20);
        let theirs = |key: &str| {
            let about = peers.as_ref().and_then(|p| p.about[key].as_f64());
            megabytes(about.unwrap_or(f64::NAN))
        };
        let (mine, faiss) = (median(&mut mine), median(&mut faiss));
        println!(
            "{rows:>9} {mine:>9.3} {faiss:>9.3} {:>10.3} {:>6.2} {:>11} {:>13} {:>17} {:>9.1} {:>9.3}",
            median(&mut usearch),
            mine / faiss,
            format!(
                "{:.0}/{:.0}",
                megabytes(gallery.searched_bytes() as f64),
                theirs("bytes")
            ),
            format!("{grown:.0}/{:.0}", theirs("rss")),
            same.map_or("-".into(), |same| format!("{same} of {count}")),
            median(&mut loads),
            median(&mut named)
        );
        if let Some(peers) = &peers {
            let version = |name: &str| peers.about[name].as_str().unwrap_or("?").to_owned();
            versions = Some((version("faiss"), version("usearch")));
        }
    }
    match versions {
        Some((faiss, usearch)) => {
            println!("ratio and memory: ours to faiss; faiss {faiss}, usearch {usearch}")
        }
        None => println!(
            "the peers are not installed: `pip install -r benches/peers/requirements.txt` into the Python that \
             FACE_BENCH_PYTHON names (python3 without it)"
        ),
    }
}
