use std::path::PathBuf;

use super::*;
use crate::gallery::Row;

/// Rows of 32 dimensions, 8 for each of `people`, in turn.
fn gallery(people: &[&str]) -> Gallery {
    let model = ModelId {
        name: "sface".into(),
        sha256: "ab".repeat(32),
    };
    let mut gallery = Gallery::new(model, 32);
    for i in 0..8 * people.len() as u32 {
        let person = people[i as usize % people.len()];
        let row = Row {
            person: person.into(),
            source: format!("{person}/{i}.jpg"),
        };
        let embedding: Vec<f32> = (0..32)
            .map(|d| ((i * 31 + d * 17) % 23) as f32 - 11.0)
            .collect();
        assert!(gallery.push(row, &embedding));
    }
    gallery
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    /// The bytes of a gallery's file, with 16-bit numbers from `large` bytes on.
    fn written(&self, gallery: &Gallery, large: u64) -> Vec<u8> {
        let path = self.0.path().join("written");
        write(gallery, &path, large).expect("writable");
        std::fs::read(path).expect("just written")
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("gallery")
    }

    /// Reads bytes as a gallery's file, treating it as large from `large` bytes on.
    fn read(&self, bytes: &[u8], large: u64) -> Result<Gallery, Error> {
        // Some systems flush a file to disk at once when it is truncated and rewritten.
        let _ = std::fs::remove_file(self.path());
        std::fs::write(self.path(), bytes).expect("writable");
        Ok(read(&self.path(), large)?.0)
    }

    /// Reads bytes as the file of a large gallery.
    fn filed(&self, bytes: &[u8]) -> Result<Gallery, Error> {
        self.read(bytes, 0)
    }
}

fn is_filed(gallery: &Gallery) -> bool {
    matches!(gallery.numbers, Numbers::Filed(_))
}

#[test]
fn a_large_gallery_is_used_where_it_lies() {
    let folder = Folder::new();
    let whole = gallery(&["ann", "bob"]);
    let filed = folder.filed(&folder.written(&whole, 0)).expect("readable");
    assert!(is_filed(&filed));
    assert_eq!(filed, whole);
    assert_eq!(filed.numbers.fixed(), whole.numbers.fixed());
    let query = whole.embedding(5);
    assert_eq!(filed.nearest(&query, 9), whole.nearest(&query, 9));
    // The gallery outlives its file, and may grow.
    std::fs::remove_file(folder.0.path().join("gallery")).expect("removable");
    let mut grown = filed.clone();
    let row = Row {
        person: "bob".into(),
        source: "new.jpg".into(),
    };
    assert!(grown.push(row.clone(), &query) && !is_filed(&grown));
    assert_eq!((grown.len(), grown.people().len()), (17, 2));
    assert_eq!(grown.row(16), row);
    assert_eq!(filed.embedding(5), query);
}

/// Nothing done to its file ends the process or makes a search fail.
#[test]
fn a_file_changed_in_place_costs_precision() {
    let folder = Folder::new();
    let whole = gallery(&["ann", "bob"]);
    let bytes = folder.written(&whole, 0);
    let numbers = bytes.len() - 6 * 32 * whole.len();
    let mut other = bytes.clone();
    other[numbers..numbers + 4 * 32 * 8].fill(7);
    for changed in [&bytes[..numbers + 1000], b"", &other] {
        let filed = folder.filed(&bytes).expect("readable");
        std::fs::write(folder.path(), changed).expect("writable in place");
        for row in 0..whole.len() {
            let query = whole.embedding(row);
            let (left, all) = (filed.nearest(&query, 9), whole.nearest(&query, 9));
            assert_eq!(left.len(), 9);
            for (left, all) in left.iter().zip(&all) {
                assert!((left.distance - all.distance).abs() < 2e-4);
            }
        }
        assert_eq!(
            filed.embedding(15) == whole.embedding(15),
            *changed == *other
        );
        // Rows that are no longer exact cannot go into another gallery or file.
        let mut grown = filed.clone();
        let row = Row {
            person: "bob".into(),
            source: "new.jpg".into(),
        };
        assert!(!grown.push(row, &whole.embedding(0)));
        let mut copy = Gallery::new(whole.model.clone(), 32);
        assert!(!copy.push_row(&filed, 7, "ann"));
        let error = write(&filed, &folder.path(), 0).expect_err("not exact");
        assert!(error.to_string().contains("was changed"), "{error}");
    }
}

/// A small file with large claims is refused before memory is allocated for it.
#[test]
fn claims_are_limited() {
    let folder = Folder::new();
    let written = |header: &str, length: u64| {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        bytes
    };
    let metadata = r#""__metadata__":{"format":"gst-face-gallery","version":"1","model":"m","model-sha256":"","rows":"[]"}"#;
    let many = |entry: &dyn Fn(usize) -> String| {
        let entries: Vec<String> = (0..300).map(entry).collect();
        entries.join(",")
    };
    let tensor = |i| format!(r#""t{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#);
    let headers = [
        (format!("{{{metadata},{}}}", many(&tensor)), "more than 256"),
        (
            format!(
                r#"{{"__metadata__":{{{}}}}}"#,
                many(&|i| format!(r#""k{i}":"v""#))
            ),
            "more than 256",
        ),
        (
            format!(
                r#"{{{metadata},"embeddings":{{"dtype":"F32","shape":[{}],"data_offsets":[0,0]}}}}"#,
                many(&|_| "0".into())
            ),
            "more than 8 dimensions",
        ),
        (
            format!(
                r#"{{{metadata},"embeddings":{{"dtype":"F32","shape":[0,9000],"data_offsets":[0,0]}}}}"#
            ),
            "more than 8192",
        ),
        (
            format!(
                r#"{{{metadata},"embeddings":{{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}}}"#
            ),
            "not a gallery",
        ),
        ("[".repeat(100_000), "not a gallery"),
    ];
    for (header, says) in &headers {
        let bytes = written(header, header.len() as u64);
        let error = folder.read(&bytes, LARGE).expect_err("refused").to_string();
        assert!(error.contains(says), "{error}");
    }
    for length in [99, 50_000_000, u64::MAX, 1 << 63] {
        let error = folder
            .read(&written("{}", length), LARGE)
            .expect_err("refused");
        assert!(error.to_string().contains("not a gallery"), "{error}");
    }
    // A gigabyte as a sparse file: its first row has no direction.
    let rows: Vec<String> = (0..40_000)
        .map(|_| r#"{\"person\":\"a\",\"source\":\"\"}"#.to_owned())
        .collect();
    let metadata = metadata.replace("[]", &format!("[{}]", rows.join(",")));
    let data = 40_000 * 8192 * 4u64;
    let header = format!(
        r#"{{{metadata},"embeddings":{{"dtype":"F32","shape":[40000,8192],"data_offsets":[0,{data}]}}}}"#
    );
    std::fs::write(folder.path(), written(&header, header.len() as u64)).expect("writable");
    let file = File::options()
        .write(true)
        .open(folder.path())
        .expect("writable");
    file.set_len(8 + header.len() as u64 + data)
        .expect("sparse");
    let error = read(&folder.path(), LARGE).expect_err("zeros").to_string();
    assert!(error.contains("has no direction"), "{error}");
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let error = read(Path::new("/dev/zero"), LARGE).expect_err("endless");
    assert!(error.to_string().contains("not a regular file"), "{error}");
}

#[test]
fn what_does_not_fit_is_computed() {
    let folder = Folder::new();
    let whole = gallery(&["ann", "bob"]);
    let same = |bytes: &[u8]| {
        let read = folder.filed(bytes).expect("readable");
        assert_eq!(read, whole);
    };
    same(&folder.written(&whole, u64::MAX));
    let bytes = folder.written(&whole, 0);
    let start = bytes.len() - 2 * 32 * whole.len();
    let edited = |edit: &dyn Fn(&mut [u8])| {
        let mut bytes = bytes.clone();
        edit(&mut bytes[start..]);
        bytes
    };
    // A changed number in a row of the sample; a row of zeros outside it; a row far too long.
    same(&edited(&|fixed| fixed[0] ^= 1));
    same(&edited(&|fixed| fixed[64 * 3..64 * 4].fill(0)));
    same(&edited(&|fixed| fixed[64 * 5..64 * 6].fill(0x7f)));
    // A different name, type or shape, in headers of the same length.
    for (from, to) in [
        ("embeddings_i16", "embeddings_j16"),
        ("\"I16\"", "\"F16\""),
        (
            "[16,32],\"data_offsets\":[2048",
            "[32,16],\"data_offsets\":[2048",
        ),
    ] {
        let position = bytes[..start]
            .windows(from.len())
            .position(|w| w == from.as_bytes())
            .expect("in the header");
        let mut bytes = bytes.clone();
        bytes[position..position + to.len()].copy_from_slice(to.as_bytes());
        same(&bytes);
    }
}

#[test]
fn names_of_every_kind_come_back() {
    let folder = Folder::new();
    for people in [
        &["ann"][..],
        &["Zoë", "李", ""],
        &[
            "quote\"d",
            "back\\slash",
            "new\nline",
            "\u{1}",
            "{\\\"person\\\":",
        ],
    ] {
        let whole = gallery(people);
        for large in [0, u64::MAX] {
            let read = folder.filed(&folder.written(&whole, large));
            assert_eq!(read.expect("readable"), whole);
        }
    }
    let empty = Gallery::new(gallery(&["ann"]).model, 32);
    let read = folder.filed(&folder.written(&empty, 0));
    assert_eq!(read.expect("readable"), empty);
}

/// Rows as other programs write them: with spaces, in another order, with extra keys.
#[test]
fn rows_of_other_writers() {
    let ours = r#""[{\"person\":\"a\",\"source\":\"s\"},{\"person\":\"b\",\"source\":\"\"}]""#;
    let json: String = serde_json::from_str(ours).expect("a string");
    let expected = RollReader::read_any(&json).expect("rows");
    let quick = RollReader::read_ours(ours, 2).expect("ours");
    for roll in [&expected, &quick] {
        assert_eq!(
            (roll.person(1), roll.source(0), roll.source(1)),
            ("b", "s", "")
        );
    }
    let other = r#"[ {"source":"s", "person":"a", "age":3}, {"person":"b","source":""} ]"#;
    let other = RollReader::read_any(other).expect("rows");
    assert_eq!(
        (other.people, other.sources),
        (expected.people, expected.sources)
    );
    assert_eq!(
        RollReader::read_ours(r#""[]""#, 0).map(|r| r.len()),
        Some(0)
    );
    for not_ours in [
        "1",
        "\"\"",
        r#""[""#,
        r#""[,]""#,
        r#""[{\"person\":\"a\",\"source\":\"s\"},]""#,
        r#""[{\"person\":\"a\",\"source\":\"s\"}{\"person\":\"a\",\"source\":\"s\"}]""#,
        r#""[{\"person\":\"\\u0041\",\"source\":\"s\"}]""#,
        r#""[ {\"person\":\"a\",\"source\":\"s\"}]""#,
    ] {
        assert!(
            RollReader::read_ours(not_ours, 1 << 60).is_none(),
            "{not_ours}"
        );
    }
}

#[test]
fn damage_is_an_error_and_never_a_panic() {
    let folder = Folder::new();
    for large in [0, u64::MAX] {
        let whole = folder.written(&gallery(&["ann"]), large);
        let by_turns = |i| if i % 2 == 0 { 0 } else { u64::MAX };
        for cut in 0..whole.len() {
            let error = folder.read(&whole[..cut], by_turns(cut)).expect_err("cut");
            assert!(error.to_string().contains("not a gallery"), "{error}");
        }
        for i in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[i] ^= 0x15;
            if let Ok(gallery) = folder.read(&flipped, by_turns(i)) {
                let _ = gallery.nearest(&gallery.embedding(0), 3);
            }
        }
    }
    // A row without direction, in both tensors.
    let mut whole = folder.written(&gallery(&["ann"]), u64::MAX);
    let start = whole.len() - 128 * 8;
    whole[start + 128..start + 256].fill(0);
    let error = folder.filed(&whole).expect_err("damaged");
    assert!(error.to_string().contains("a row of \"ann\""), "{error}");
    let missing = read(&folder.0.path().join("none"), LARGE).expect_err("no such file");
    assert!(missing.to_string().contains("facepipe enroll"), "{missing}");
}

#[test]
fn what_is_read_and_written_again_stays_as_it_is() {
    let folder = Folder::new();
    let mut whole = gallery(&["ann", "bob"]);
    whole
        .notes
        .insert("made-for".into(), "the \"party\"".into());
    let bytes = folder.written(&whole, u64::MAX);
    let read = folder.read(&bytes, u64::MAX).expect("readable");
    assert_eq!(read, whole, "bit by bit");
    let again = folder.written(&read, u64::MAX);
    assert_eq!(again, folder.written(&whole, u64::MAX), "the same file");
    assert_eq!(read.notes, whole.notes);
    let again = folder.read(&again, u64::MAX).expect("readable");
    assert_eq!((&again, &again.notes), (&whole, &whole.notes));
    let mut copy = Gallery::new(whole.model.clone(), 32);
    assert!(copy.push_row(&again, 3, "eve") && !copy.push_row(&gallery_of_2(), 0, "eve"));
    assert_eq!(copy.embedding(0), whole.embedding(3));
    assert_eq!(
        (&*copy.row(0).person, &*copy.row(0).source),
        ("eve", "bob/3.jpg")
    );
}

/// One row with two dimensions.
fn gallery_of_2() -> Gallery {
    let mut small = Gallery::new(gallery(&[]).model, 2);
    let row = Row {
        person: "x".into(),
        source: String::new(),
    };
    assert!(small.push(row, &[1.0, 1.0]));
    small
}

#[test]
fn tensors_begin_at_cache_lines() {
    let folder = Folder::new();
    for name in ["a", "ab", "abc"] {
        let whole = folder.written(&gallery(&[name]), 0);
        assert_eq!((whole.len() - 8 * 32 * 6) % ALIGNMENT, 0);
    }
}

#[test]
fn a_header_beyond_the_format_is_refused() {
    let mut whole = gallery(&["ann"]);
    let row = Row {
        person: "ann".into(),
        source: "x".repeat(MAX_HEADER),
    };
    assert!(whole.push(row, &[1.0; 32]));
    let folder = Folder::new();
    let path = folder.0.path().join("long");
    let error = write(&whole, &path, LARGE).expect_err("too long");
    assert!(error.to_string().contains("divide the gallery"), "{error}");
    assert!(!path.exists());
}

#[test]
fn faces_that_are_not_to_be_named_come_back() {
    let folder = Folder::new();
    let plain = gallery(&["ann", "bob"]);
    let mut whole = plain.clone();
    for i in 0..3u8 {
        let mut face = vec![0.1; 32];
        face[usize::from(i)] = 2.0;
        assert!(whole.push_stranger(&format!("door track {i}"), &face));
    }
    for large in [u64::MAX, 0] {
        let bytes = folder.written(&whole, large);
        let read = folder.read(&bytes, large).expect("readable");
        assert_eq!(read, whole);
        assert!(read != plain);
        assert_eq!(read.strangers().len(), 3);
        assert_eq!(folder.written(&read, large), bytes);
        assert_eq!(
            read.nearest_stranger(whole.stranger(2)).map(|n| n.0),
            Some(2)
        );
        // A version that knows nothing of them sees the same people.
        assert_eq!(read.rows(), plain.rows());
    }
    // Such a version drops the tensor when it writes, and keeps the metadata as a note.
    let mut old = plain.clone();
    old.notes
        .insert("strangers".into(), r#"["door track 0"]"#.into());
    let read = folder.read(&folder.written(&old, u64::MAX), u64::MAX);
    assert_eq!(read.expect("readable").strangers(), [""; 0]);
    // A row of zeros, behind the people's 16 rows.
    let mut damaged = folder.written(&whole, u64::MAX);
    let end = damaged.len();
    damaged[end - 3 * 4 * 32..].fill(0);
    let error = folder.read(&damaged, u64::MAX).expect_err("damaged");
    assert!(error.to_string().contains("`strangers`"), "{error}");
}
