use super::*;

fn row(person: &str) -> Row {
    Row {
        person: person.into(),
        source: format!("{person}/1.jpg"),
    }
}

fn gallery() -> Gallery {
    let model = ModelId {
        name: "sface".into(),
        sha256: "ab".repeat(32),
    };
    let mut gallery = Gallery::new(model, 3);
    assert!(gallery.push(row("ann"), &[2.0, 0.0, 0.0]));
    assert!(gallery.push(row("bob"), &[0.0, 5.0, 0.0]));
    assert!(gallery.push(row("ann"), &[1.0, 1.0, 0.0]));
    gallery
}

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end
    }

    /// Between -1 and 1, more often near 0.
    fn number(&mut self) -> f32 {
        let unit = |n: u64| n as f32 / (1u64 << 31) as f32;
        unit(self.next()) - unit(self.next())
    }

    /// Rows around the centres of `people`.
    fn gallery(&mut self, dimensions: usize, count: usize, people: usize, noise: f32) -> Gallery {
        let centres: Vec<Vec<f32>> = (0..people)
            .map(|_| (0..dimensions).map(|_| self.number()).collect())
            .collect();
        let mut gallery = Gallery::new(gallery().model, dimensions);
        for i in 0..count {
            let centre = &centres[i % people];
            let embedding: Vec<f32> = centre.iter().map(|v| v + noise * self.number()).collect();
            assert!(gallery.push(row(&format!("p{}", i % people)), &embedding));
        }
        gallery
    }
}

fn brute_force(gallery: &Gallery, query: &[f32], k: usize) -> Vec<Neighbor> {
    let similarity = |row: usize| -> f64 {
        let row = gallery.embedding(row);
        let products = row.iter().zip(query);
        products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let mut all: Vec<(usize, f64)> = (0..gallery.len())
        .map(|row| (row, similarity(row)))
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let neighbor = |(row, similarity): (usize, f64)| Neighbor {
        row,
        person: gallery.roll.person[row] as usize,
        distance: (1.0 - similarity).max(0.0),
    };
    all.into_iter().take(k).map(neighbor).collect()
}

#[test]
fn nearest_by_cosine_distance() {
    let found = gallery().nearest(&[1.0, 0.0, 0.0], 2);
    assert_eq!(found.iter().map(|n| n.row).collect::<Vec<_>>(), [0, 2]);
    assert!(found[0].distance.abs() < 1e-6);
    assert!((found[1].distance - (1.0 - 0.5f64.sqrt())).abs() < 1e-6);
    assert!(
        gallery().nearest(&[1.0, 0.0], 2).is_empty(),
        "another length"
    );
    assert_eq!(gallery().nearest(&[1.0, 0.0, 0.0], 99).len(), 3);
}

#[test]
fn vectors_without_direction_are_refused() {
    let mut gallery = gallery();
    for bad in [[0.0; 3], [f32::NAN, 1.0, 0.0], [f32::INFINITY, 0.0, 0.0]] {
        assert!(!gallery.push(row("eve"), &bad));
    }
    assert!(!gallery.push(row("eve"), &[1.0, 2.0]));
    assert_eq!((gallery.len(), gallery.people().len()), (3, 2));
}

#[test]
fn what_is_written_is_read_and_only_the_owner_may() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("g.safetensors");
    gallery().write(&path).expect("writable");
    assert_eq!(Gallery::read(&path).expect("just written"), gallery());
    gallery()
        .write(&path)
        .expect("an existing file is replaced");
    let names: Vec<_> = std::fs::read_dir(folder.path())
        .expect("readable")
        .collect();
    assert_eq!(names.len(), 1, "no temporary file is left");
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&path)
        .expect("exists")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("new", &link).expect("writable");
    gallery()
        .write(&link)
        .expect("a link to nothing is followed");
    assert!(link.is_symlink() && folder.path().join("new").is_file());
}

#[test]
fn nearest_is_brute_force() {
    let mut random = Random(7);
    // Dimensions around the width of registers, rows around the length of blocks.
    for (dimensions, count, people, noise) in [
        (128, 3000, 3000, 1.0),
        (128, 3000, 20, 0.05),
        (128, 1000, 5, 1e-4),
        (512, 700, 30, 0.3),
        (37, 257, 9, 0.2),
        (2, 300, 300, 1.0),
        (1, 5, 5, 1.0),
    ] {
        let gallery = random.gallery(dimensions, count, people, noise);
        for k in [1, 6, 50, count + 1] {
            for _ in 0..4 {
                let row = random.below(count);
                let near = gallery.embedding(row);
                let query: Vec<f32> = near
                    .iter()
                    .map(|v| v + noise * random.number() / 8.0)
                    .collect();
                let query = normalised(&query).expect("a direction");
                assert_eq!(
                    gallery.nearest(&query, k),
                    brute_force(&gallery, &query, k),
                    "{dimensions} {count} {noise} {k}"
                );
            }
        }
    }
}

/// Photos enrolled twice are equally near, so the lower row comes first.
#[test]
fn equal_rows_keep_their_order() {
    let mut random = Random(8);
    let mut gallery = random.gallery(16, 600, 3, 0.5);
    for copy in 0..600 {
        let embedding = gallery.embedding(copy % 10).to_vec();
        assert!(gallery.push(row("twin"), &embedding));
    }
    let query = gallery.embedding(3).to_vec();
    let found = gallery.nearest(&query, 40);
    assert_eq!(found, brute_force(&gallery, &query, 40));
    assert_eq!(found[0].row, 3);
    assert_eq!(found[1].row, 603);
}

#[test]
fn a_query_without_direction_is_near_to_nothing() {
    for query in [[f32::NAN, 1.0, 0.0], [0.0; 3], [f32::INFINITY, 0.0, 0.0]] {
        assert_eq!(gallery().nearest(&query, 2), []);
    }
    let long = gallery().nearest(&[0.0, 2.0, 0.0], 1);
    assert_eq!((long[0].row, long[0].distance), (1, 0.0));
    assert_eq!(gallery().nearest(&[f32::MAX; 3], 3).len(), 3);
    assert_eq!(gallery().nearest(&[1e-40, 0.0, 0.0], 3)[0].row, 0);
}

#[test]
fn rows_come_back_in_the_order_of_pushing() {
    let gallery = gallery();
    assert_eq!(gallery.people(), ["ann", "bob"]);
    assert_eq!([0, 1].map(|person| gallery.rows_of(person)), [2, 1]);
    assert_eq!(gallery.rows(), [row("ann"), row("bob"), row("ann")]);
    assert_eq!(gallery.row(2), row("ann"));
    assert_eq!(gallery.searched_bytes(), 3 * 3 * 2);
}

#[test]
fn another_model_is_refused_with_both_names() {
    let other = ModelId {
        name: "arcface".into(),
        sha256: "cd".repeat(32),
    };
    let error = gallery()
        .expect_model(Path::new("g"), &other)
        .expect_err("another model");
    assert!(error.to_string().contains("`sface`") && error.to_string().contains("`arcface`"));
}
