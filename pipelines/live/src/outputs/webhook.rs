//! Delivers events to other programs: sends a POST and retries until it is accepted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use face_meta::names;
use parking_lot::{Condvar, Mutex};

use super::spool::Spool;
use crate::backoff::Backoff;
use crate::config;
use crate::telemetry;
use crate::threads::Thread;

/// The limit of events that wait for one webhook; beyond it the oldest are dropped.
const QUEUE: usize = 10_000;

/// How long to retry an event.
const PATIENCE: Duration = Duration::from_secs(3600);

/// The minimum time for a request that started before the end of the program.
const CLOSE: Duration = Duration::from_millis(100);

/// The webhooks of the process, one per address. They stay when the configuration changes, so that
/// promised events are still delivered.
pub struct Webhooks {
    /// Where events wait for the next start, or the reason why there is no such folder.
    folder: Result<PathBuf, String>,
    started: Mutex<BTreeMap<String, Arc<Webhook>>>,
}

impl Webhooks {
    pub fn new(config: &config::Config) -> Self {
        Self {
            folder: config
                .state_folder()
                .map(|folder| folder.join("webhooks"))
                .map_err(|error| format!("{error:#}")),
            started: Mutex::default(),
        }
    }

    /// The webhook of an address, started if it is new. It takes over token and timeout.
    pub fn get(&self, config: &config::Webhook) -> Result<Arc<Webhook>> {
        let mut started = self.started.lock();
        if let Some(webhook) = started.get(&config.url) {
            *webhook.config.lock() = config.clone();
            return Ok(webhook.clone());
        }
        let folder = self.folder.clone().map_err(anyhow::Error::msg)?;
        let webhook = Webhook::start(config, folder)?;
        started.insert(config.url.clone(), webhook.clone());
        Ok(webhook)
    }

    /// Delivers waiting events while that succeeds and there is time. The rest waits for the next
    /// start.
    pub fn close(&self, deadline: Instant) {
        let started = std::mem::take(&mut *self.started.lock());
        let deadline = deadline.max(Instant::now() + CLOSE);
        for webhook in started.values() {
            webhook.state.lock().end = Some(deadline);
            webhook.changed.notify_all();
        }
        for (url, webhook) in &started {
            let left = deadline.saturating_duration_since(Instant::now());
            let thread = webhook.thread.lock().take();
            if thread.is_some_and(|thread| !thread.ends_within(left)) {
                tracing::warn!(
                    "{}: does not answer; continuing without waiting for it",
                    label(url)
                );
            }
        }
    }

    /// Drops the events that name a person, including those for addresses from earlier
    /// configurations. Returns what is not done by the deadline.
    pub fn forget(&self, forgetting: &Forgetting, deadline: Instant) -> Vec<String> {
        // So that none is started meanwhile.
        let started = self.started.lock();
        let all = started.iter();
        let mut late: Vec<String> = all
            .filter_map(|(url, webhook)| {
                let why = webhook.forget(forgetting, deadline).err()?;
                Some(format!("{}: {why}", label(url)))
            })
            .collect();
        let running: BTreeSet<PathBuf> = started
            .values()
            .map(|webhook| webhook.state.lock().spool.path().to_owned())
            .collect();
        let entries = self.folder.as_ref().ok().map(std::fs::read_dir);
        for entry in entries.into_iter().flatten().flatten().flatten() {
            let path = entry.path();
            let is_spool = path.extension().is_some_and(|e| e == "jsonl");
            if !is_spool || running.contains(&path) {
                continue;
            }
            let (mut spool, left) = Spool::at(path);
            let meant = left.iter().filter(|(_, body)| forgetting.is_meant(body));
            if !spool.purge(meant.map(|(id, _)| id.as_str())) {
                late.push(format!("{} cannot be written", spool.path().display()));
            }
        }
        late
    }
}

/// Selects the events to drop when a person is forgotten.
pub struct Forgetting<'a> {
    pub person: &'a str,
    /// The ids that they had as a stranger.
    pub strangers: &'a [String],
    /// The cameras that continue to name them.
    pub others: &'a BTreeSet<String>,
}

impl Forgetting<'_> {
    fn is_meant(&self, body: &str) -> bool {
        #[derive(serde::Deserialize)]
        struct Body {
            name: Option<String>,
            person: Option<String>,
            camera: Option<String>,
        }
        // What is not an event names nobody.
        serde_json::from_str(body).is_ok_and(|body: Body| {
            let is_theirs =
                |name: &String| names::same(name, self.person) || self.strangers.contains(name);
            body.name.iter().chain(&body.person).any(is_theirs)
                && !body
                    .camera
                    .is_some_and(|camera| self.others.contains(&camera))
        })
    }
}

/// An event to deliver.
#[derive(Clone)]
struct Parcel {
    id: String,
    body: String,
    accepted: Instant,
    /// `None` for an event from an earlier run.
    telemetry: Option<Arc<telemetry::Camera>>,
}

/// Delivers events to one address, in order.
pub struct Webhook {
    config: Mutex<config::Webhook>,
    state: Mutex<State>,
    changed: Condvar,
    thread: Mutex<Option<Thread>>,
}

struct State {
    /// When delivery must end, once that is known.
    end: Option<Instant>,
    waiting: VecDeque<Parcel>,
    spool: Spool,
    /// The event being sent.
    sending: Option<String>,
}

impl Webhook {
    fn start(config: &config::Webhook, folder: PathBuf) -> Result<Arc<Self>> {
        let (spool, left) = Spool::open(&folder, &config.url);
        let waiting: VecDeque<_> = left
            .into_iter()
            .map(|(id, body)| Parcel {
                id,
                body,
                accepted: Instant::now(),
                telemetry: None,
            })
            .collect();
        let label = label(&config.url);
        if !waiting.is_empty() {
            tracing::info!(
                events = waiting.len(),
                "{label}: events of an earlier run are delivered first"
            );
        }
        let webhook = Arc::new(Self {
            config: Mutex::new(config.clone()),
            state: Mutex::new(State {
                end: None,
                waiting,
                spool,
                sending: None,
            }),
            changed: Condvar::new(),
            thread: Mutex::default(),
        });
        let work = {
            let webhook = webhook.clone();
            move || deliver_all(&webhook, &label)
        };
        let thread =
            Thread::start("webhook", work).context("a webhook's thread cannot be started")?;
        *webhook.thread.lock() = Some(thread);
        Ok(webhook)
    }

    /// Accepts an event with its body, a JSON object. Never waits for the network.
    pub fn send(&self, id: &str, body: &[u8], telemetry: &Arc<telemetry::Camera>) {
        let parcel = Parcel {
            id: id.to_owned(),
            body: String::from_utf8_lossy(body).into_owned(),
            accepted: Instant::now(),
            telemetry: Some(telemetry.clone()),
        };
        let mut state = self.state.lock();
        if state.waiting.len() >= QUEUE
            && let Some(oldest) = state.waiting.pop_front()
        {
            oldest.give_up();
            state.spool.done(&oldest.id);
        }
        state.spool.add(&parcel.id, &parcel.body);
        state.waiting.push_back(parcel);
        self.changed.notify_all();
    }

    /// Drops the matching events, and waits for one that is being sent. Fails with the reason if
    /// that is not done by the deadline.
    fn forget(&self, forgetting: &Forgetting, deadline: Instant) -> Result<(), &'static str> {
        let mut state = self.state.lock();
        let (gone, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut state.waiting)
            .into_iter()
            .partition(|parcel| forgetting.is_meant(&parcel.body));
        state.waiting = VecDeque::from(waiting);
        if !state
            .spool
            .purge(gone.iter().map(|parcel| parcel.id.as_str()))
        {
            return Err("waiting events are on disk, which cannot be written");
        }
        let is_sent = |state: &mut State| {
            let mut gone = gone.iter();
            gone.any(|parcel| state.sending.as_ref() == Some(&parcel.id))
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_while_for(&mut state, is_sent, left);
        match waited.timed_out() {
            true => Err("an event with the name is being sent to it"),
            false => Ok(()),
        }
    }

    /// Waits for an event. Returns the oldest, and how long its request may take; the event stays
    /// in the queue. `None` at the end.
    fn first(&self) -> Option<(Parcel, Duration)> {
        let idle = |state: &mut State| state.waiting.is_empty() && state.end.is_none();
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, idle);
        let left = match state.end {
            Some(end) => end.checked_duration_since(Instant::now())?,
            None => Duration::MAX,
        };
        let first = state.waiting.front()?.clone();
        state.sending = Some(first.id.clone());
        Some((first, left))
    }

    fn sent(&self) {
        self.state.lock().sending = None;
        self.changed.notify_all();
    }

    /// Pauses, but not beyond the end. Returns `false` at the end.
    fn pause(&self, pause: Duration) -> bool {
        let goes_on = |state: &mut State| state.end.is_none();
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, goes_on, pause);
        state.end.is_none()
    }

    fn done(&self, id: &str) {
        let mut state = self.state.lock();
        // It may have been dropped meanwhile, for newer ones or because it was forgotten.
        if state.waiting.front().is_some_and(|first| first.id == id) {
            state.waiting.pop_front();
            state.spool.done(id);
        }
    }
}

impl Parcel {
    /// Counts the loss.
    fn give_up(&self) {
        if let Some(telemetry) = &self.telemetry {
            telemetry.output_errors.inc();
        }
    }
}

/// The result of a request.
enum Answer {
    Taken,
    /// It will never be accepted.
    Refused(String),
    /// It may be accepted later.
    Failed(String),
}

fn deliver_all(webhook: &Webhook, label: &str) {
    let mut backoff = Backoff::default();
    let mut failing = false;
    while let Some((parcel, left)) = webhook.first() {
        let mut config = webhook.config.lock().clone();
        config.timeout = config.timeout.min(left);
        let answer = post(&config, &parcel);
        webhook.sent();
        match answer {
            Answer::Taken => {
                webhook.done(&parcel.id);
                if std::mem::take(&mut failing) {
                    tracing::info!("{label}: accepts events again");
                }
                backoff = Backoff::default();
            }
            Answer::Refused(why) => {
                tracing::error!(event = parcel.id, "{label}: refused an event: {why}");
                parcel.give_up();
                webhook.done(&parcel.id);
                backoff = Backoff::default();
            }
            Answer::Failed(why) if parcel.accepted.elapsed() >= PATIENCE => {
                tracing::error!(event = parcel.id, "{label}: gave up on an event: {why}");
                parcel.give_up();
                webhook.done(&parcel.id);
            }
            Answer::Failed(why) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!("{label}: {why}; trying again");
                }
                if !webhook.pause(backoff.pause(Duration::ZERO, rand::random())) {
                    return;
                }
            }
        }
    }
}

fn post(config: &config::Webhook, parcel: &Parcel) -> Answer {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(config.timeout))
        .http_status_as_error(false)
        // A redirect would be followed with GET.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("facepipe/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let mut request = agent
        .post(&config.url)
        .header("Content-Type", "application/json")
        .header("Idempotency-Key", &parcel.id);
    if let Some(token) = &config.token {
        request = request.header("Authorization", format!("Bearer {}", token.reveal()));
    }
    let status = match request.send(parcel.body.as_bytes()) {
        Ok(response) => response.status(),
        // These contain what cannot be sent, which may be the token or the address.
        Err(ureq::Error::Http(_) | ureq::Error::BadUri(_)) => {
            return Answer::Refused("its address or token is not valid in a request".into());
        }
        Err(error) => return Answer::Failed(error.to_string()),
    };
    match status.as_u16() {
        200..=299 => Answer::Taken,
        408 | 425 | 429 | 500.. => Answer::Failed(format!("it answers {status}")),
        _ => Answer::Refused(format!("it answers {status}")),
    }
}

/// An address for the log. Path and query are left out, as many services put a secret there.
fn label(url: &str) -> String {
    let end = url
        .find("://")
        .map(|at| at + 3)
        .map(|start| (start, url[start..].find(['/', '?', '#'])));
    let text = match end {
        Some((start, Some(length))) => format!("{}/…", &url[..start + length]),
        _ => url.to_owned(),
    };
    // Also without `user:password@`.
    match (text.find("://"), text.find('@')) {
        (Some(scheme), Some(at)) => format!("webhook {}{}", &text[..scheme + 3], &text[at + 1..]),
        _ => format!("webhook {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_tells_no_secret() {
        for (url, expected) in [
            (
                "https://hooks.example.org/services/T0/B0/x?y=z",
                "webhook https://hooks.example.org/…",
            ),
            ("http://127.0.0.1:8080", "webhook http://127.0.0.1:8080"),
            ("http://me:pw@host/x", "webhook http://host/…"),
            ("http://host?token=x", "webhook http://host/…"),
        ] {
            assert_eq!(label(url), expected);
        }
    }
}
