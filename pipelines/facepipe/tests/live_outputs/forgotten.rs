//! `facepipe forget` while `facepipe live` runs.

use super::*;

/// The files below a folder, except the photos, that contain `text`.
fn with(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in names(folder).into_iter().filter(|name| name != "people") {
        let path = folder.join(name);
        // A file may be closed and renamed meanwhile.
        match path.is_dir() {
            true => found.extend(with(&path, text)),
            false => found.extend(fs::read(&path).ok().and_then(|bytes| {
                let mut windows = bytes.windows(text.len());
                let has = windows.any(|window| window == text.as_bytes());
                has.then(|| path.clone())
            })),
        }
    }
    found
}

/// Somebody who is forgotten while the camera sees them is not named from then on, until they are
/// enrolled again. Nothing else is lost.
#[test]
fn somebody_is_forgotten_while_the_camera_sees_them() {
    let folder = gallery();
    let (root, out) = (folder.path(), folder.path().join("out"));
    let dead = free_port();
    let config = camera(&format!(
        "jsonl = {{ path = \"out/{{camera}}.jsonl\", max-size = \"9 kB\" }}\n\
         segments = {{ folder = \"seg\", length = \"2s\" }}\n\
         events = {{ path = \"out/events.jsonl\", left-after = \"500ms\", stranger-after = \"1s\", \
         webhooks = [{{ url = \"http://127.0.0.1:{dead}/hook?token=z9y8\" }}] }}\n"
    ));
    let mut live = Live::start(root, &config);
    let lines = || {
        let mut all: Vec<Value> = Vec::new();
        let (open, closed): (Vec<_>, Vec<_>) = files(&out, "jsonl")
            .into_iter()
            .partition(|path| path.ends_with("door.jsonl"));
        let closed = closed
            .into_iter()
            .filter(|path| !path.ends_with("events.jsonl"));
        for path in closed.chain(open) {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            all.extend(
                whole
                    .lines()
                    .map(|l| serde_json::from_str::<Value>(l).expect(l)),
            );
        }
        all
    };
    let named = |name: &str| {
        let is_named = |line: &&Value| line["faces"][0]["name"] == name;
        lines().iter().filter(is_named).count()
    };
    let spool = root.join("state/webhooks");
    live.wait(
        "named lines, a closed file, and an event that waits",
        || named("anna") > 8 && files(&out, "jsonl").len() > 2 && !with(&spool, "anna").is_empty(),
    );
    let mut forget = facepipe();
    let output = run(forget
        .args(["forget", "anna", "--json"])
        .args([&out, &root.join("g.safetensors")]));
    assert_code(&output, 0);
    let report: Value = serde_json::from_str(&crate::common::stdout(&output)).expect("JSON");
    assert_eq!(report["running"][0]["cameras"][0], "door", "{report}");
    assert_eq!(with(root, "anna"), Vec::<PathBuf>::new());

    // These would have named her: lines, the event that she left, a new one for the webhook.
    let before = lines().len();
    let event = |kind: &str| !with(&out, &format!("\"type\":\"{kind}\"")).is_empty();
    live.wait("more lines, and a stranger", || {
        lines().len() > before + 24 && event("stranger") && named("Unknown") > 0
    });
    assert_eq!(with(root, "anna"), Vec::<PathBuf>::new());
    assert!(!event("left") && !event("appeared"));
    // Every frame has its line, both in the rewritten files and in later ones.
    let all = lines();
    let frames: Vec<u64> = all
        .iter()
        .filter_map(|line| line["frame"].as_u64())
        .collect();
    assert!(
        frames.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{frames:?}"
    );
    assert_eq!(frames[0], 0);

    // She is enrolled again.
    let track = all
        .iter()
        .rev()
        .find_map(|line| line["faces"][0]["track"].as_u64());
    let mut enroll = facepipe();
    enroll.args(["enroll", "--person", "anna", "--camera", "door", "--config"]);
    enroll.arg(root.join("live.toml")).arg("--track");
    assert_code(&run(enroll.arg(track.expect("a face").to_string())), 0);
    live.wait("her name", || named("anna") > 0);
    assert!(
        with(root, "z9y8")
            .iter()
            .all(|path| path.ends_with("live.toml"))
    );
    live.terminate();
}
