use super::*;
use crate::gallery::Row;

/// `people` names, 8 rows each by turns, of 32 dimensions.
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

    /// Reads bytes as a mapped file.
    fn mapped(&self, bytes: &[u8]) -> Result<Gallery, Error> {
        let path = self.0.path().join("mapped");
        std::fs::write(&path, bytes).expect("writable");
        read(&path, 0)
    }
}

fn is_mapped(gallery: &Gallery) -> bool {
    matches!(gallery.numbers, Numbers::Mapped(_))
}

#[test]
fn a_large_gallery_is_used_where_it_lies() {
    let folder = Folder::new();
    let whole = gallery(&["ann", "bob"]);
    let mapped = folder.mapped(&folder.written(&whole, 0)).expect("readable");
    assert!(is_mapped(&mapped));
    assert_eq!(mapped, whole);
    assert_eq!(mapped.numbers.fixed(), whole.numbers.fixed());
    let query = whole.embedding(5);
    assert_eq!(mapped.nearest(query, 9), whole.nearest(query, 9));
    // It outlives its file, and may grow.
    std::fs::remove_file(folder.0.path().join("mapped")).expect("removable");
    let mut grown = mapped.clone();
    let row = Row {
        person: "bob".into(),
        source: "new.jpg".into(),
    };
    assert!(grown.push(row.clone(), query) && !is_mapped(&grown));
    assert_eq!((grown.len(), grown.people().len()), (17, 2));
    assert_eq!(grown.row(16), row);
    assert_eq!(mapped.embedding(5), query);
}

#[test]
fn what_does_not_fit_is_computed() {
    let folder = Folder::new();
    let whole = gallery(&["ann", "bob"]);
    let same = |bytes: &[u8]| {
        let read = folder.mapped(bytes).expect("readable");
        assert!(!is_mapped(&read));
        assert_eq!(read.numbers.fixed(), whole.numbers.fixed());
    };
    same(&folder.written(&whole, u64::MAX));
    let bytes = folder.written(&whole, 0);
    let start = bytes.len() - 2 * 32 * whole.len();
    let edited = |edit: &dyn Fn(&mut [u8])| {
        let mut bytes = bytes.clone();
        edit(&mut bytes[start..]);
        bytes
    };
    // Another number in a row of the sample; a row of zeros beside it; a row far too long.
    same(&edited(&|fixed| fixed[0] ^= 1));
    same(&edited(&|fixed| fixed[64 * 3..64 * 4].fill(0)));
    same(&edited(&|fixed| fixed[64 * 5..64 * 6].fill(0x7f)));
    // Another name, type or shape, in headers of the same length.
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
            let read = folder.mapped(&folder.written(&whole, large));
            assert_eq!(read.expect("readable"), whole);
        }
    }
    let empty = Gallery::new(gallery(&["ann"]).model, 32);
    let read = folder.mapped(&folder.written(&empty, 0));
    assert_eq!(read.expect("readable"), empty);
}

/// Rows as others write them: with spaces, in another order, with more in them.
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
        for cut in 0..whole.len() {
            let copied = parse(Content::Copied(whole[..cut].to_vec()));
            assert!(copied.is_err(), "cut at {cut}");
            if cut % 61 == 0 {
                let error = folder.mapped(&whole[..cut]).expect_err("cut");
                assert!(error.to_string().contains("not a gallery"), "{error}");
            }
        }
        for i in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[i] ^= 0x15;
            let _ = parse(Content::Copied(flipped.clone()));
            if i % 7 == 0 {
                let _ = folder.mapped(&flipped);
            }
        }
    }
    // A row without direction, in every number.
    let mut whole = folder.written(&gallery(&["ann"]), u64::MAX);
    let start = whole.len() - 128 * 8;
    whole[start + 128..start + 256].fill(0);
    let error = folder.mapped(&whole).expect_err("damaged");
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
    let read = parse(Content::Copied(bytes)).expect("readable");
    assert_eq!(read, whole, "bit by bit");
    let again = folder.written(&read, u64::MAX);
    assert_eq!(again, folder.written(&whole, u64::MAX), "the same file");
    assert_eq!(read.notes, whole.notes);
    let again = parse(Content::Copied(again)).expect("readable");
    assert_eq!((&again, &again.notes), (&whole, &whole.notes));
    let mut copy = Gallery::new(whole.model.clone(), 32);
    assert!(copy.push_row(&again, 3, "eve") && !copy.push_row(&gallery_of_2(), 0, "eve"));
    assert_eq!(copy.embedding(0), whole.embedding(3));
    assert_eq!(
        (&*copy.row(0).person, &*copy.row(0).source),
        ("eve", "bob/3.jpg")
    );
}

/// One row of two dimensions.
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
