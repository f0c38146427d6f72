//! The configuration of `facepipe live`.
#![no_main]

use std::path::Path;

use face_live::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    // Secrets from the environment and from files are out of scope.
    if text.contains("-env") || text.contains("-file") {
        return;
    }
    let Ok(config) = Config::parse(text, Path::new("/etc/facepipe")) else {
        return;
    };
    assert!(!config.cameras.is_empty());
    for camera in &config.cameras {
        assert!(!camera.name.is_empty() && !camera.name.contains(['/', '\0']));
        assert!(camera.stages.interval > 0 && camera.stages.threads > 0);
        if let Some(events) = &camera.events {
            assert!(
                events
                    .webhooks
                    .iter()
                    .all(|hook| hook.url.starts_with("http"))
            );
        }
    }
    // Debug output works (it holds no secrets).
    assert!(!format!("{config:?}").is_empty());
});
