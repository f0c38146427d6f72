use super::*;
use crate::gallery::{ModelId, Row};

fn gallery(person: &str) -> Gallery {
    let model = ModelId {
        name: "m".into(),
        sha256: String::new(),
    };
    let mut gallery = Gallery::new(model, 2);
    let row = Row {
        person: person.into(),
        source: String::new(),
    };
    assert!(gallery.push(row, &[1.0, 0.0]));
    gallery
}

fn stamp(size: u64) -> Content {
    Content::File(Stamp {
        device: 1,
        inode: 2,
        modified: (3, 4),
        size,
    })
}

#[test]
fn a_file_is_read_when_it_has_settled() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut sight = Sight {
        known: stamp(1),
        new: None,
    };
    let read = |last| Step::Read { last };
    assert_eq!(sight.look(stamp(1), at(0)), Step::Nothing);
    assert_eq!(sight.look(stamp(2), at(250)), Step::Soon);
    assert_eq!(sight.look(stamp(3), at(340)), Step::Soon, "it grows");
    assert_eq!(sight.look(stamp(3), at(400)), Step::Soon);
    assert_eq!(sight.look(stamp(3), at(450)), read(false));
    // That attempt failed.
    assert_eq!(sight.look(stamp(3), at(700)), Step::Nothing);
    assert_eq!(sight.look(stamp(3), at(1400)), read(true));
    sight.settle(stamp(3));
    assert_eq!(sight.look(stamp(3), at(1650)), Step::Nothing);
    // Gone, and back before it has to be reported.
    let gone = Content::Nothing(io::ErrorKind::NotFound);
    assert_eq!(sight.look(gone, at(1900)), Step::Soon);
    assert_eq!(sight.look(stamp(3), at(1950)), Step::Nothing);
    assert_eq!(sight.look(gone, at(2000)), Step::Soon);
    assert_eq!(sight.look(gone, at(2100)), read(false));
}

fn modified(path: &Path, time: SystemTime) {
    let file = std::fs::File::options().write(true).open(path);
    file.and_then(|file| file.set_modified(time))
        .expect("may be set");
}

#[test]
fn a_content_is_in_memory_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("g");
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).expect("a link");
    gallery("ann").write(&path).expect("writable");
    let hour = Duration::from_secs(3600);
    modified(&path, SystemTime::now() + hour);
    let (new, seen) = open(&path).expect("readable");
    assert_eq!(seen, Content::Unsure, "it was written just now");
    modified(&path, SystemTime::now() - hour);
    let (first, seen) = open(&path).expect("readable");
    assert!(!Arc::ptr_eq(&new, &first) && matches!(seen, Content::File(_)));
    let (second, _) = open(&link).expect("readable");
    assert!(Arc::ptr_eq(&first, &second));
    gallery("bob").write(&path).expect("writable");
    let (other, _) = open(&path).expect("readable");
    assert_eq!(other.people(), ["bob"]);
    assert_eq!(first.people(), ["ann"]);
    drop((first, second));
    std::fs::remove_file(&path).expect("removable");
    assert!(open(&path).is_err());
}

/// What a watch reported: the people, or the error.
type News = std::sync::mpsc::Receiver<Result<Vec<String>, String>>;

fn watched(path: &Path, known: Content) -> (Watch, News) {
    let (send, news) = std::sync::mpsc::channel();
    let told: Told = Arc::new(move |read: &Result<Arc<Gallery>, Error>| {
        let news = match read {
            Ok(gallery) => Ok(gallery.people().to_vec()),
            Err(error) => Err(error.to_string()),
        };
        let _ = send.send(news);
    });
    (Watch::new(path, known, told).expect("a thread"), news)
}

#[test]
fn every_change_is_told_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("g");
    gallery("ann").write(&path).expect("writable");
    modified(&path, SystemTime::now() - Duration::from_secs(3600));
    let (_held, seen) = open(&path).expect("readable");
    let (first, news) = watched(&path, seen);
    let (second, others) = watched(&path, seen);
    let wait = Duration::from_secs(60);
    let quiet = Duration::from_millis(1500);
    assert!(news.recv_timeout(Duration::from_millis(600)).is_err());
    gallery("bob").write(&path).expect("writable");
    for news in [&news, &others] {
        assert_eq!(news.recv_timeout(wait), Ok(Ok(vec!["bob".to_owned()])));
    }
    drop(second);
    std::fs::write(&path, "junk").expect("writable");
    let junk = news.recv_timeout(wait).expect("told").expect_err("junk");
    assert!(junk.contains("not a gallery"), "{junk}");
    assert!(news.recv_timeout(quiet).is_err(), "told once");
    std::fs::remove_file(&path).expect("removable");
    let gone = news.recv_timeout(wait).expect("told").expect_err("gone");
    assert!(gone.contains("does not exist"), "{gone}");
    gallery("ann").write(&path).expect("writable");
    assert_eq!(news.recv_timeout(wait), Ok(Ok(vec!["ann".to_owned()])));
    assert!(others.try_recv().is_err(), "nobody listens");
    drop(first);
    assert!(news.recv_timeout(quiet).is_err());
}

#[test]
fn whoever_ends_a_watch_waits_for_what_it_tells() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("g");
    gallery("ann").write(&path).expect("writable");
    let (begins, begun) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let told: Told = {
        let ended = Mutex::new(ended);
        Arc::new(move |_: &Result<Arc<Gallery>, Error>| {
            begins.send(()).expect("the test waits");
            // Fails once the test has ended.
            let _ = ended.lock().recv();
        })
    };
    let watch = Watch::new(&path, Content::Unsure, told).expect("a thread");
    let wait = Duration::from_secs(60);
    begun.recv_timeout(wait).expect("told");
    let (dropped, is_dropped) = std::sync::mpsc::channel();
    let dropping = std::thread::spawn(move || {
        drop(watch);
        dropped.send(()).expect("the test waits");
    });
    assert!(is_dropped.try_recv().is_err(), "it is being told");
    end.send(()).expect("it waits");
    is_dropped.recv_timeout(wait).expect("ends");
    dropping.join().expect("no panic");
    let left = begun.recv_timeout(wait);
    assert_eq!(left, Err(RecvTimeoutError::Disconnected), "nothing is left");
}

#[test]
fn a_watch_may_end_in_what_it_tells() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("g");
    gallery("ann").write(&path).expect("writable");
    let own = Arc::<Mutex<Option<Watch>>>::default();
    let (send, news) = std::sync::mpsc::channel();
    let told: Told = {
        let own = own.clone();
        Arc::new(move |_: &Result<Arc<Gallery>, Error>| {
            drop(own.lock().take());
            send.send(()).expect("the test waits");
        })
    };
    // Held until the watch is in its place, where `told` looks for it.
    let mut place = own.lock();
    *place = Some(Watch::new(&path, Content::Unsure, told).expect("a thread"));
    drop(place);
    let told = news.recv_timeout(Duration::from_secs(60));
    told.expect("the thread does not wait for itself");
}
