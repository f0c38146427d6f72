//! Logs refused viewers. The server reports every viewer as not authorised at first, because
//! viewers first ask without a password. Only the second time means a wrong one.

use std::collections::HashMap;
use std::sync::{LazyLock, Once};
use std::time::{Duration, Instant};

use glib::translate::ToGlibPtr;
use gst_rtsp_server::prelude::*;
use parking_lot::Mutex;

/// Somebody who tries passwords must not fill the log.
const PAUSE: Duration = Duration::from_secs(10);

/// How often each viewer was refused, by the address of its object.
#[derive(Default)]
struct Refusals {
    of: HashMap<usize, u32>,
    told: Option<Instant>,
    untold: u64,
}

static REFUSALS: LazyLock<Mutex<Refusals>> = LazyLock::new(Mutex::default);

impl Refusals {
    /// Takes a message of the server. Returns the number of viewers with a wrong password to
    /// report, if it is time.
    fn hear(&mut self, message: &str, now: Instant) -> Option<u64> {
        let rest = message.strip_prefix("client 0x")?;
        let (address, what) = rest.split_once(": ")?;
        if !what.starts_with("not authorized") {
            return None;
        }
        let client = usize::from_str_radix(address, 16).ok()?;
        let times = self.of.entry(client).or_default();
        *times += 1;
        if *times != 2 {
            return None;
        }
        self.untold += 1;
        if self
            .told
            .is_some_and(|told| now.duration_since(told) < PAUSE)
        {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

/// Watches the viewers of `server`.
pub fn watch(server: &gst_rtsp_server::RTSPServer) {
    server.connect_client_connected(|_, client| {
        let address = |client: &gst_rtsp_server::RTSPClient| {
            let pointer: *mut gst_rtsp_server::ffi::GstRTSPClient = client.to_glib_none().0;
            pointer as usize
        };
        // Addresses are reused.
        REFUSALS.lock().of.remove(&address(client));
        client.connect_closed(move |client| {
            REFUSALS.lock().of.remove(&address(client));
        });
    });
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        gst::log::add_log_function(|category, level, _, _, _, _, message| {
            if category.name() != "rtspclient" || level != gst::DebugLevel::Error {
                return;
            }
            let Some(text) = message.get() else {
                return;
            };
            let told = REFUSALS.lock().hear(&text, Instant::now());
            if let Some(viewers) = told {
                tracing::warn!(viewers, "refused a viewer: wrong user name or password");
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_second_refusal_of_a_viewer_counts() {
        let mut refusals = Refusals::default();
        let start = Instant::now();
        let mut hear = |client: &str, after: u64| {
            let message = format!("client 0x{client}: not authorized to see factory path /door");
            refusals.hear(&message, start + Duration::from_secs(after))
        };
        assert_eq!(hear("7f01", 0), None);
        assert_eq!(hear("7f02", 0), None);
        assert_eq!(hear("7f01", 1), Some(1));
        assert_eq!(hear("7f01", 20), None, "the same viewer");
        assert_eq!(hear("7f02", 2), None, "so soon");
        assert_eq!((hear("7f03", 11), hear("7f03", 12)), (None, Some(2)));
        let now = start + Duration::from_secs(60);
        for other in ["client 0x7f03: no media", "client x: not authorized", ""] {
            assert_eq!(refusals.hear(other, now), None);
        }
    }
}
