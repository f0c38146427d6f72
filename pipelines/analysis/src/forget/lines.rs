//! Removes a person from JSON lines. The rest of a line stays the same, byte by byte.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use face_core::file::Lines;
use face_meta::names;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Forgetting, Removed, writers};
use crate::record::LONGEST_LINE;
use face_parts::lock::has_no_locks;
use face_parts::output::{self, Output};

/// How often to retry a file while somebody writes to it.
const ATTEMPTS: usize = 5;

/// The depth of nested objects to search: events that wait for a webhook have two levels.
const DEPTH: usize = 4;

/// A JSON object in the order of its keys, with unparsed values.
struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Object(entries))
            }
        }
        from.deserialize_map(Entries)
    }
}

impl<'a> Object<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    fn value<T: Deserialize<'a>>(&self, key: &str) -> Option<T> {
        let (_, value) = self.0.iter().find(|(k, _)| k == key)?;
        serde_json::from_str(value.get()).ok()
    }

    /// The person that the object, or one inside it, is about.
    fn person(&self) -> Option<String> {
        self.person_within(DEPTH)
    }

    fn person_within(&self, depth: usize) -> Option<String> {
        let person = self.value("name").or_else(|| self.value("person"));
        let objects = self.0.iter().filter(|(_, v)| v.get().starts_with('{'));
        let mut objects = objects.filter_map(|(_, value)| Object::parse(value.get()));
        person.or_else(|| match depth {
            0 => None,
            _ => objects.find_map(|object| object.person_within(depth - 1)),
        })
    }

    fn track(&self) -> Option<u64> {
        self.value("track")
    }
}

/// The tracks of a file that belong to a person. Where the frame count starts over, so do the
/// tracks: such a file contains several successive streams.
pub struct Tracks {
    person: String,
    tracks: HashSet<(usize, u64)>,
    /// The person's tracks in all streams of the file.
    known: BTreeSet<u64>,
    /// The names of all people.
    pub names: BTreeSet<String>,
    stream: Stream,
    /// Whether the line belongs to a stream; events belong to many.
    streamed: bool,
}

/// The stream to which a line belongs.
#[derive(Default, Clone, Copy)]
struct Stream {
    number: usize,
    frame: u64,
}

impl Stream {
    /// Advances to this line. Returns whether it belongs to a stream.
    fn pass(&mut self, line: &Object) -> bool {
        if let Some(frame) = line.value("frame") {
            self.number += usize::from(frame < self.frame);
            self.frame = frame;
        }
        matches!(line.value("type"), Some("frame" | "track"))
    }
}

/// What to do with a line.
#[derive(Debug, PartialEq, Eq)]
pub enum Edit {
    Keep,
    /// It is about the person only.
    Drop,
    /// It contains more: the new text, and the number of removed faces.
    Change(String, u64),
}

impl Tracks {
    /// `known` are tracks that are known to be the person's.
    pub fn new(person: &str, known: BTreeSet<u64>) -> Self {
        Self {
            person: person.to_owned(),
            tracks: HashSet::new(),
            known,
            names: BTreeSet::new(),
            stream: Stream::default(),
            streamed: false,
        }
    }

    /// Learns from a line. Call it with all lines in order before editing the first.
    pub fn learn(&mut self, text: &str) {
        let Some(line) = Object::parse(text) else {
            return;
        };
        self.streamed = self.stream.pass(&line);
        self.learn_object(&line);
        let lists = line.0.iter().filter(|(_, v)| v.get().starts_with('['));
        for (_, list) in lists {
            let objects: Vec<&RawValue> = serde_json::from_str(list.get()).unwrap_or_default();
            for object in objects {
                if let Some(object) = Object::parse(object.get()) {
                    self.learn_object(&object);
                }
            }
        }
    }

    fn learn_object(&mut self, object: &Object) {
        let Some(name) = object.person() else {
            return;
        };
        if names::same(&name, &self.person)
            && self.streamed
            && let Some(track) = object.track()
        {
            self.tracks.insert((self.stream.number, track));
        }
        self.names.insert(names::normal(&name).into_owned());
    }

    /// Learns from lines that follow the edited ones. Returns whether new tracks were found, as
    /// earlier lines may belong to them.
    fn learn_more(&mut self, lines: &[String]) -> bool {
        let (stream, known) = (self.stream, self.tracks.len());
        lines.iter().for_each(|line| self.learn(line));
        self.stream = stream;
        self.tracks.len() > known
    }

    /// Call it before editing the lines from the first one on.
    pub fn rewind(&mut self) {
        self.stream = Stream::default();
    }

    fn is_theirs(&self, object: &Object) -> bool {
        object
            .person()
            .is_some_and(|name| names::same(&name, &self.person))
            || object
                .track()
                .filter(|_| self.streamed)
                .is_some_and(|track| {
                    self.known.contains(&track)
                        || self.tracks.contains(&(self.stream.number, track))
                })
    }

    /// Returns the line without the person.
    pub fn edit(&mut self, text: &str) -> Edit {
        let Some(line) = Object::parse(text) else {
            return Edit::Keep;
        };
        self.streamed = self.stream.pass(&line);
        if self.is_theirs(&line) {
            return Edit::Drop;
        }
        let mut removed = 0;
        let values: Vec<(&str, Cow<str>)> = line
            .0
            .iter()
            .map(|(key, value)| {
                let value = value.get();
                let left = value
                    .starts_with('[')
                    .then(|| self.list(value, &mut removed));
                (&**key, left.flatten().map_or(value.into(), Cow::Owned))
            })
            .collect();
        if removed == 0 {
            return Edit::Keep;
        }
        let values: Vec<String> = values
            .iter()
            .map(|(key, value)| format!("{}:{value}", serde_json::Value::from(*key)))
            .collect();
        Edit::Change(format!("{{{}}}", values.join(",")), removed)
    }

    /// A list without the person's faces and name. `None` if it contains none.
    fn list(&self, text: &str, removed: &mut u64) -> Option<String> {
        let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
        let theirs = |element: &&&RawValue| match Object::parse(element.get()) {
            Some(object) => self.is_theirs(&object),
            None => serde_json::from_str::<String>(element.get())
                .is_ok_and(|text| names::same(&text, &self.person)),
        };
        let left: Vec<&str> = elements
            .iter()
            .filter(|element| !theirs(element))
            .map(|element| element.get())
            .collect();
        let fewer = elements.len() - left.len();
        *removed += fewer as u64;
        (fewer > 0).then(|| format!("[{}]", left.join(",")))
    }
}

impl Removed {
    fn count(&mut self, edit: &Edit) {
        match edit {
            Edit::Keep => {}
            Edit::Drop => self.lines += 1,
            Edit::Change(_, faces) => self.faces += faces,
        }
    }
}

/// Removes the person from a file of JSON lines.
pub fn file(path: &Path, forgetting: &mut Forgetting) -> Result<Removed> {
    let (tracks, removed) = look(path, BTreeSet::new(), forgetting)?;
    // Most files contain nothing about the person and need no second pass.
    match removed == Removed::default() || forgetting.dry_run {
        true => Ok(removed),
        false => edit(path, tracks, forgetting),
    }
}

/// Determines what to remove from a file. `known` are tracks known to be the person's.
pub fn look(
    path: &Path,
    known: BTreeSet<u64>,
    forgetting: &mut Forgetting,
) -> Result<(Tracks, Removed)> {
    let mut tracks = Tracks::new(&forgetting.person, known);
    each_line(path, |line| {
        tracks.learn(line);
        Ok(())
    })?;
    forgetting.names.append(&mut tracks.names);
    let mut removed = Removed::default();
    tracks.rewind();
    each_line(path, |line| {
        removed.count(&tracks.edit(line));
        Ok(())
    })?;
    Ok((tracks, removed))
}

/// Removes what was found.
pub fn edit(path: &Path, mut tracks: Tracks, forgetting: &Forgetting) -> Result<Removed> {
    for _ in 0..ATTEMPTS {
        if let Some(removed) = replace(path, &mut tracks, &forgetting.writers)? {
            return Ok(removed);
        }
    }
    bail!("{} is being written; run the command again", path.display())
}

/// Replaces a file by one without the person. `None` if somebody has written to it or replaced it
/// meanwhile.
fn replace(path: &Path, tracks: &mut Tracks, writers: &BTreeSet<u32>) -> Result<Option<Removed>> {
    let unreadable = || format!("{} cannot be read", path.display());
    let unwritable = || format!("{} cannot be written", path.display());
    let file = File::open(path).with_context(unreadable)?;
    if let Some(process) = writers::stranger(&file, writers) {
        bail!(
            "the process {process} has it open, and would continue to write into a removed file; end \
             it and run the command again"
        );
    }
    let output = Output::replace(path)?;
    // The current writers, who may be other users, keep their access.
    let own = file.metadata().with_context(unreadable)?;
    std::os::unix::fs::chown(output.writable(), Some(own.uid()), Some(own.gid()))
        .with_context(|| format!("{} cannot be given to its owner", path.display()))?;
    let mut out = BufWriter::new(File::create(output.writable()).with_context(unwritable)?);
    let mut removed = Removed::default();
    tracks.rewind();
    let mut write = |line: &str, tracks: &mut Tracks| {
        let (line, end) = match line.strip_suffix('\n') {
            Some(line) => (line, "\n"),
            None => (line, ""),
        };
        let edit = tracks.edit(line);
        removed.count(&edit);
        let text = match edit {
            Edit::Drop => return Ok(()),
            Edit::Keep => line.into(),
            Edit::Change(text, _) => Cow::Owned(text),
        };
        write!(out, "{text}{end}").with_context(unwritable)
    };
    let mut lines = BufReader::new(&file);
    let mut length = each(&mut lines, path, |line| match line.ends_with('\n') {
        true => write(line, tracks).map(|()| true),
        // It may be half a line.
        false => Ok(false),
    })?;
    // `facepipe live` waits from here on, so that no line is added between the last check and the
    // replacement.
    let locked = lock(path).with_context(|| format!("{} cannot be locked", path.display()))?;
    let is_same = |other: io::Result<std::fs::Metadata>| {
        let own = file.metadata();
        matches!((own, other), (Ok(own), Ok(other)) if output::is_same(&own, &other))
    };
    if !is_same(std::fs::metadata(path)) || !is_same(locked.metadata()) {
        return Ok(None);
    }
    let mut rest = Vec::new();
    let mut lines = BufReader::new(&file);
    lines
        .seek(SeekFrom::Start(length))
        .with_context(unreadable)?;
    length += each(&mut lines, path, |line| {
        rest.push(line.to_owned());
        Ok(true)
    })?;
    if tracks.learn_more(&rest) {
        return Ok(None);
    }
    for line in &rest {
        write(line, tracks)?;
    }
    out.flush().with_context(unwritable)?;
    drop(out);
    // Other programs do not wait for the lock.
    if !file.metadata().is_ok_and(|m| m.len() == length) {
        return Ok(None);
    }
    output.keep()?;
    Ok(Some(removed))
}

/// Opens the file at `path` and locks it until it is closed. Network file systems grant an
/// exclusive lock only if the file is open for writing. On a file system without locks, nobody
/// waits for one.
fn lock(path: &Path) -> io::Result<File> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        // The folder may be ours although the file is only readable.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => File::open(path)?,
        opened => opened?,
    };
    match file.lock() {
        Err(error) if !has_no_locks(&error) => Err(error),
        _ => Ok(file),
    }
}

/// Calls `each` with every line and its line break, until it returns `false`. Returns the number of
/// bytes before that line.
fn each(
    file: &mut impl BufRead,
    path: &Path,
    mut each: impl FnMut(&str) -> Result<bool>,
) -> Result<u64> {
    let mut lines = Lines::new(file, LONGEST_LINE);
    let mut line = String::new();
    let mut length = 0;
    loop {
        let read = lines.next_into(&mut line);
        let more = read.with_context(|| format!("{}, line {}", path.display(), lines.number()))?;
        if !more || !each(&line)? {
            return Ok(length);
        }
        length += line.len() as u64;
    }
}

/// The same for every line of a file.
fn each_line(path: &Path, mut all: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let unreadable = || format!("{} cannot be read", path.display());
    let mut file = BufReader::new(File::open(path).with_context(unreadable)?);
    each(&mut file, path, |line| all(line).map(|()| true)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forget(person: &str, lines: &[&str]) -> Vec<Edit> {
        let mut tracks = Tracks::new(person, BTreeSet::new());
        lines.iter().for_each(|line| tracks.learn(line));
        tracks.rewind();
        lines.iter().map(|line| tracks.edit(line)).collect()
    }

    #[test]
    fn faces_of_a_person_are_removed_under_every_name_of_their_tracks() {
        let lines = [
            r#"{"type":"frame","frame":0,"faces":[{"box":[1.0,2.50],"track":7,"name":"Unknown"},{"track":8,"name":"Bob"}],"pts":1}"#,
            r#"{"type":"frame","frame":1, "faces":[{"track":7,"name":"Ann"}]}"#,
            r#"{"type":"frame","frame":2,"faces":[{"track":8,"name":"Bob"}]}"#,
            r#"{"type":"track","track":7,"name":"Ann"}"#,
            r#"{"type":"event","event":"person-left","person":"Ann","camera":"door"}"#,
            r#"{"type":"event","people":["Bob","Ann"]}"#,
            r#"{"type":"stranger","track":7}"#,
            r#"{"add":{"id":"7","body":{"type":"left","name":"Ann"}}}"#,
            // The stream starts over, and so do the tracks.
            r#"{"type":"frame","frame":0,"faces":[{"track":7,"name":"Bob"}]}"#,
            "no JSON, but Ann",
            "",
        ];
        let change = |text: &str, removed| Edit::Change(text.into(), removed);
        assert_eq!(
            forget("Ann", &lines),
            [
                change(
                    r#"{"type":"frame","frame":0,"faces":[{"track":8,"name":"Bob"}],"pts":1}"#,
                    1
                ),
                change(r#"{"type":"frame","frame":1,"faces":[]}"#, 1),
                Edit::Keep,
                Edit::Drop,
                Edit::Drop,
                change(r#"{"type":"event","people":["Bob"]}"#, 1),
                Edit::Keep,
                Edit::Drop,
                Edit::Keep,
                Edit::Keep,
                Edit::Keep,
            ]
        );
    }

    #[test]
    fn names_of_every_kind_are_known_by_what_they_say() {
        let line = r#"{"type":"track","track":1,"name":"Zo\u00eb \"Z\""}"#;
        assert_eq!(forget("Zoë \"Z\"", &[line]), [Edit::Drop]);
        assert_eq!(forget("Zoë", &[line]), [Edit::Keep]);
        assert_eq!(forget("zoë \"z\"", &[line]), [Edit::Keep]);
        let list = r#"{"type":"event","people":["Zoe\u0308","Ann"]}"#;
        let decomposed = "{\"type\":\"track\",\"track\":1,\"name\":\"Zoe\u{308}\"}";
        assert_eq!(
            forget("Zoë", &[decomposed, list]),
            [
                Edit::Drop,
                Edit::Change(r#"{"type":"event","people":["Ann"]}"#.into(), 1)
            ]
        );
    }
}
