//! Tests viewers of the RTSP stream, and the segments.

use super::*;

/// The status of an RTSP DESCRIBE without credentials.
fn describe(port: u16, name: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    write!(
        stream,
        "DESCRIBE rtsp://127.0.0.1:{port}/{name} RTSP/1.0\r\nCSeq: 1\r\n\r\n"
    )
    .expect("sent");
    let mut line = String::new();
    BufReader::new(stream)
        .read_line(&mut line)
        .expect("an answer");
    line
}

/// Whether a viewer gets 20 frames.
fn views(port: u16, password: &str, protocol: &str) -> bool {
    let output = Command::new("timeout")
        .args(["30", "gst-launch-1.0", "-q", "rtspsrc"])
        .arg(format!("location=rtsp://127.0.0.1:{port}/door"))
        .args(["user-id=viewer", "latency=50"])
        .arg(format!("user-pw={password}"))
        .arg(format!("protocols={protocol}"))
        .args("! rtph264depay ! avdec_h264 ! identity eos-after=20 ! fakesink".split(' '))
        .stdin(Stdio::null())
        .output()
        .expect("gst-launch-1.0 is installed");
    output.status.success()
}

#[test]
fn viewers_need_the_password_and_segments_play() {
    let folder = gallery();
    let port = free_port();
    let (seg, hls) = (folder.path().join("seg"), folder.path().join("hls"));
    let config = format!(
        "[restream]\nlisten = \"127.0.0.1:{port}\"\n{}{}",
        camera("restream = true\nsegments = { folder = \"seg\", length = \"2s\" }\n"),
        camera("segments = { folder = \"hls\", format = \"hls\", length = \"2s\", keep = 3 }\n")
            .replace("\"door\"", "\"hall\""),
    );
    let mut live = Live::start(folder.path(), &config);
    live.wait("a piece was closed", || files(&seg, "mp4").len() >= 2);
    let state = folder.path().join("state/restream-password");
    let password = fs::read_to_string(&state).expect("written");
    let password = password.trim();
    assert_private(&state);
    assert!(describe(port, "door").contains(" 401 "));
    assert!(!views(port, "wrong", "tcp"));
    live.wait("the wrong password is told", || {
        live_log(folder.path()).contains("refused a viewer: wrong user name or password")
    });
    let said = live.log();
    assert!(views(port, password, "tcp") && views(port, password, "udp"));
    // A viewer who comes with the right password and leaves causes no warning.
    let after = live.log()[said.len()..].to_owned();
    assert!(
        !after.contains("refused") && !after.contains("rtsp"),
        "{after}"
    );
    live.wait("the list is full", || {
        let list = fs::read_to_string(hls.join("hall.m3u8")).unwrap_or_default();
        let first = list
            .lines()
            .find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:"));
        first.is_some_and(|number| number != "0")
    });
    live.signal("-HUP");
    live.wait("the configuration is read again", || {
        live_log(folder.path()).contains("configuration reloaded")
    });
    live.terminate();
    let log = live_log(folder.path());
    assert!(!log.contains(password), "{log}");
    // Decoders and GStreamer 1.22 itself may complain when a stream is cut on a busy machine.
    let is_wrong = |line: &&str| {
        (line.contains("ERROR") && !line.contains("glib::GStreamer"))
            || line.contains(" WARN gstreamer::rtsp")
    };
    let wrong: Vec<&str> = log.lines().filter(is_wrong).collect();
    assert!(wrong.is_empty(), "{wrong:?} in {log}");

    let pieces = files(&seg, "mp4");
    for path in &pieces {
        assert_private(path);
        assert!(duration(path) > 0.0 && decoded(path) > 0, "{path:?}");
    }
    let whole = duration(&pieces[0]);
    assert!((1.9..2.6).contains(&whole), "{whole} s");
    let list = fs::read_to_string(hls.join("hall.m3u8")).expect("written");
    assert!(list.ends_with("#EXT-X-ENDLIST\n"), "{list}");
    let listed: Vec<_> = list.lines().filter(|line| line.ends_with(".ts")).collect();
    let there = files(&hls, "ts");
    assert_eq!(listed.len(), 3, "{list}");
    assert_eq!(
        there,
        listed.iter().map(|name| hls.join(name)).collect::<Vec<_>>()
    );
    assert!(there.iter().all(|path| decoded(path) > 0));
}

#[test]
fn viewers_of_a_camera_without_a_picture_are_told_so() {
    let folder = gallery();
    let (port, nobody) = (free_port(), free_port());
    let away = format!("rtsp://127.0.0.1:{nobody}/x");
    let config = format!(
        "[restream]\nlisten = \"127.0.0.1:{port}\"\nanonymous = true\n\
         [[camera]]\nname = \"tür\"\nuri = {away:?}\nrestream = true\n"
    );
    let mut live = Live::start(folder.path(), &config);
    live.wait("the server listens", || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    // The camera may be mounted a moment later.
    live.wait("the camera has a place", || {
        !describe(port, "t%C3%BCr").contains(" 404 ")
    });
    for name in ["t%C3%BCr", "tür", "tür?x=y"] {
        assert!(describe(port, name).contains(" 503 "), "{name}");
    }
    assert!(describe(port, "other").contains(" 404 "));
    live.terminate();
}
