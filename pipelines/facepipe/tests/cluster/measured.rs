//! Measures which method and which threshold group best, on photos and clips with known people.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use image::{RgbImage, imageops};
use safetensors::SafeTensors;
use serde_json::Value;

use super::{Key, analyze, cluster, clusters, values};
use crate::common::{assert_code, media, names, run};

/// Photos, mostly of one person, and the number of people in them.
const PHOTOS: [(&str, usize); 10] = [
    ("0-f1-su-ph.jpg", 1),
    ("0-f15-hao-ph.jpg", 1),
    ("15-f13-anc-ph.jpg", 1),
    ("45-m7-di-ph.jpg", 1),
    ("Tom_Hanks_54745.png", 1),
    ("Image_with_alpha.png", 1),
    ("BWPictureHuman.jpg", 1),
    ("single_face.jpg", 1),
    ("multi_face.jpg", 5),
    ("t1.jpg", 6),
];
/// The man in these clips is the one of `single_face.jpg`.
const CLIPS: [&str; 3] = ["single_face.mp4", "face_noface.mov", "noface_face.mov"];
const SELFIE: &str = "single_face-1";

/// Changes of a photo; those from `MIRRORED` on are mirrored.
const VARIATIONS: [&str; 7] = ["whole", "half", "dark", "blur", "turned", "mirror", "noise"];
const MIRRORED: usize = 5;

fn vary(photo: &RgbImage, variation: &str) -> RgbImage {
    let (width, height) = photo.dimensions();
    match variation {
        "half" => imageops::resize(photo, width / 2, height / 2, imageops::FilterType::Triangle),
        "dark" => RgbImage::from_fn(width, height, |x, y| {
            image::Rgb(photo.get_pixel(x, y).0.map(|v| (0.45 * f64::from(v)) as u8))
        }),
        "blur" => imageops::blur(photo, width.max(height) as f32 / 350.0),
        "turned" => {
            let (sin, cos) = (-12f64).to_radians().sin_cos();
            let (cx, cy) = (f64::from(width) / 2.0, f64::from(height) / 2.0);
            RgbImage::from_fn(width, height, |x, y| {
                let (dx, dy) = (f64::from(x) - cx, f64::from(y) - cy);
                let at = |v: f64, end: u32| v.clamp(0.0, f64::from(end - 1)) as u32;
                *photo.get_pixel(
                    at(cx + cos * dx - sin * dy, width),
                    at(cy + sin * dx + cos * dy, height),
                )
            })
        }
        "mirror" => imageops::flip_horizontal(photo),
        "noise" => {
            let mut random = random();
            let mut photo = imageops::flip_horizontal(photo);
            for value in photo.iter_mut() {
                // Nearly normal, with a deviation of 18 of 255.
                let sum: f64 = (0..4).map(|_| random(1000) as f64 / 1000.0 - 0.5).sum();
                *value = (f64::from(*value) + 31.0 * sum).clamp(0.0, 255.0) as u8;
            }
            photo
        }
        _ => photo.clone(),
    }
}

/// Pseudo-random numbers below a limit, the same in every run.
fn random() -> impl FnMut(u64) -> u64 {
    let mut state = 7u64;
    move |below| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) % below
    }
}

/// Analyses all photos in all variations, and the clips. Returns who each track is: the photo, and
/// the position from the left.
fn labelled(folder: &Path) -> HashMap<Key, String> {
    let inputs = folder.join("in");
    fs::create_dir_all(&inputs).expect("writable");
    for (photo, _) in PHOTOS {
        let stem = photo.split('.').next().expect("a name");
        let image = image::open(media(photo))
            .expect("a photo")
            .thumbnail(900, 900);
        let image = image.into_rgb8();
        for variation in VARIATIONS {
            let path = inputs.join(format!("{stem}-{variation}.bmp"));
            vary(&image, variation).save(path).expect("writable");
        }
    }
    let results = folder.join("all");
    let mut all: Vec<PathBuf> = CLIPS.map(media).to_vec();
    all.push(inputs);
    assert_code(&run(&mut analyze(&all, &results)), 0);

    let mut people = HashMap::new();
    for clip in CLIPS {
        let name = clip.split('.').next().expect("a name");
        people.insert((name.to_owned(), 1), SELFIE.to_owned());
    }
    for (photo, count) in PHOTOS {
        let stem = photo.split('.').next().expect("a name");
        for (number, variation) in VARIATIONS.iter().enumerate() {
            let name = format!("{stem}-{variation}");
            let text = fs::read_to_string(results.join(&name).join("faces.jsonl"));
            let text = text.expect("written");
            let frame: Value =
                serde_json::from_str(text.lines().next().expect("a frame")).expect("JSON");
            let faces = frame["faces"].as_array().expect("a list");
            assert_eq!(faces.len(), count, "{name}");
            let x = |face: &Value| face["box"][0].as_f64().expect("a number");
            let mut order: Vec<&Value> = faces.iter().collect();
            order.sort_by(|a, b| x(a).total_cmp(&x(b)));
            if number >= MIRRORED {
                order.reverse();
            }
            for (place, face) in (1..).zip(order) {
                let track = face["track"].as_u64().expect("a number");
                people.insert((name.clone(), track), format!("{stem}-{place}"));
            }
        }
    }
    people
}

/// Precision and recall of pairs. Also the means over tracks of two shares: of its cluster that is
/// the same person, and of the person that is in its cluster (B-cubed).
#[derive(Default, Clone, Copy)]
struct Score {
    pairs: [f64; 2],
    cubed: [f64; 2],
}

impl Score {
    fn of(clusters: &[Vec<Key>], people: &HashMap<Key, String>) -> Self {
        let tracks: Vec<(usize, &str)> = (0..)
            .zip(clusters)
            .flat_map(|(number, cluster)| cluster.iter().map(move |key| (number, key)))
            .map(|(number, key)| (number, people[key].as_str()))
            .collect();
        let (mut both, mut together, mut same) = (0.0, 0.0, 0.0);
        let mut cubed = [0.0; 2];
        for a in &tracks {
            let count = |test: &dyn Fn(&(usize, &str)) -> bool| {
                tracks.iter().filter(|b| test(b)).count() as f64
            };
            let of_both = count(&|b| b == a);
            let of_cluster = count(&|b| b.0 == a.0);
            let of_person = count(&|b| b.1 == a.1);
            both += of_both - 1.0;
            together += of_cluster - 1.0;
            same += of_person - 1.0;
            cubed[0] += of_both / of_cluster / tracks.len() as f64;
            cubed[1] += of_both / of_person / tracks.len() as f64;
        }
        let share = |of: f64| if of > 0.0 { both / of } else { 1.0 };
        Self {
            pairs: [share(together), share(same)],
            cubed,
        }
    }

    fn mean(scores: &[Self]) -> Self {
        let mean = |value: &dyn Fn(&Self) -> f64| {
            scores.iter().map(value).sum::<f64>() / scores.len() as f64
        };
        Self {
            pairs: [0, 1].map(|i| mean(&|s| s.pairs[i])),
            cubed: [0, 1].map(|i| mean(&|s| s.cubed[i])),
        }
    }

    fn f(&self) -> f64 {
        let [precision, recall] = self.cubed;
        2.0 * precision * recall / (precision + recall)
    }
}

/// The embeddings of all tracks in a folder of results.
fn embeddings(results: &Path) -> Vec<(Key, Vec<f32>)> {
    let mut all = Vec::new();
    for name in names(results) {
        let Ok(bytes) = fs::read(results.join(&name).join("tracks.safetensors")) else {
            continue;
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("valid");
        let metadata = header.metadata().as_ref().expect("metadata");
        let tracks: Vec<u64> = serde_json::from_str(&metadata["tracks"]).expect("JSON");
        let file = SafeTensors::deserialize(&bytes).expect("valid");
        let tensor = file.tensor("embeddings").expect("there");
        let numbers: Vec<f32> = values(tensor.data()).collect();
        for (track, row) in tracks.iter().zip(numbers.chunks_exact(tensor.shape()[1])) {
            all.push(((name.clone(), *track), row.to_vec()));
        }
    }
    all
}

/// Chinese whispers, the other method. In random order and repeatedly, every track takes the label
/// with the greatest weight among its neighbours, which are the tracks nearer than the threshold.
/// As all inputs are pictures, or clips of one face, tracks of one input are not neighbours.
fn whispers(tracks: &[(Key, Vec<f32>)], threshold: f64) -> Vec<Vec<Key>> {
    let near = |a: usize, b: usize| {
        let (a, b) = (&tracks[a], &tracks[b]);
        let product: f32 = a.1.iter().zip(&b.1).map(|(a, b)| a * b).sum();
        let weight = threshold - (1.0 - f64::from(product));
        (a.0.0 != b.0.0 && weight > 0.0).then_some(weight)
    };
    let n = tracks.len();
    let neighbours: Vec<Vec<(usize, f64)>> = (0..n)
        .map(|a| {
            (0..n)
                .filter(|&b| b != a)
                .filter_map(|b| Some((b, near(a, b)?)))
                .collect()
        })
        .collect();
    let mut labels: Vec<usize> = (0..n).collect();
    let mut random = random();
    for _ in 0..20 {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, random(i as u64 + 1) as usize);
        }
        for i in order {
            let mut sums = vec![0.0; n];
            for &(other, weight) in &neighbours[i] {
                sums[labels[other]] += weight;
            }
            let best = (0..n)
                .max_by(|a, b| sums[*a].total_cmp(&sums[*b]))
                .expect("some");
            if sums[best] > 0.0 {
                labels[i] = best;
            }
        }
    }
    let mut clusters = vec![Vec::new(); n];
    for (label, (key, _)) in labels.into_iter().zip(tracks) {
        clusters[label].push(key.clone());
    }
    clusters.retain(|c| !c.is_empty());
    clusters
}

/// Prints both methods at several thresholds, with `--nocapture`: for all tracks, and averaged over
/// draws of one to four inputs of each photo, because few tracks are the hard case.
#[test]
fn the_default_is_measured() {
    const THRESHOLD: f64 = 0.637;
    const SHARES: [f64; 7] = [0.7, 0.8, 0.85, 0.9, 1.0, 1.1, 1.2];
    const DRAWS: usize = 8;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let people = labelled(folder.path());
    let all = folder.path().join("all");
    let mut draws = vec![all.clone()];
    let mut random = random();
    for number in 0..DRAWS {
        let draw = folder.path().join(format!("draw-{number}"));
        fs::create_dir(&draw).expect("writable");
        let add = |name: &str| {
            let _ = std::os::unix::fs::symlink(all.join(name), draw.join(name));
        };
        for (photo, _) in PHOTOS {
            let stem = photo.split('.').next().expect("a name");
            for _ in 0..=random(4) {
                let variation = VARIATIONS[random(VARIATIONS.len() as u64) as usize];
                add(&format!("{stem}-{variation}"));
            }
        }
        add(CLIPS[random(3) as usize].split('.').next().expect("a name"));
        draws.push(draw);
    }
    let persons: HashSet<&String> = people.values().collect();
    println!("{} tracks of {} people", people.len(), persons.len());
    println!("                      all tracks                    mean of {DRAWS} draws of few");
    println!("method    share    pairs P     R  B3 P     R     F  pairs P     R  B3 P     R     F");
    let show = |method: &str, share: f64, scores: &[Score]| {
        let row = [scores[0], Score::mean(&scores[1..])].map(|s| {
            let ([p, r], [bp, br]) = (s.pairs, s.cubed);
            format!("  {p:.3} {r:.3} {bp:.3} {br:.3} {:.3}", s.f())
        });
        println!("{method:9} {share:.2}   {}   {}", row[0], row[1]);
        [scores[0], Score::mean(&scores[1..])]
    };
    for share in SHARES {
        let distance = (share * THRESHOLD).to_string();
        let scores: Vec<Score> = draws
            .iter()
            .map(|draw| {
                assert_code(
                    &run(cluster(draw).args(["--distance-threshold", &distance])),
                    0,
                );
                Score::of(&clusters(draw), &people)
            })
            .collect();
        show("average", share, &scores);
    }
    for share in SHARES {
        let scores: Vec<Score> = draws
            .iter()
            .map(|draw| Score::of(&whispers(&embeddings(draw), share * THRESHOLD), &people))
            .collect();
        show("whispers", share, &scores);
    }
    let scores: Vec<Score> = draws
        .iter()
        .map(|draw| {
            assert_code(&run(&mut cluster(draw)), 0);
            Score::of(&clusters(draw), &people)
        })
        .collect();
    for score in show("default", 0.85, &scores) {
        assert!(
            score.pairs[0] > 0.99 && score.pairs[1] > 0.9,
            "{:?}",
            score.pairs
        );
        assert!(score.f() > 0.97, "{}", score.f());
    }
}
