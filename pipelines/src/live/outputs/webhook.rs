//! Events to other programs: POST, tried again until it is taken.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::spool::Spool;
use crate::live::backoff::Backoff;
use crate::live::config;
use crate::live::telemetry;
use crate::live::threads::Thread;

/// Events that wait for one webhook; beyond them the oldest are dropped.
const QUEUE: usize = 10_000;

/// An event is tried again for so long.
const PATIENCE: Duration = Duration::from_secs(3600);

/// How long a request may take that began before the end of the program, at least.
const CLOSE: Duration = Duration::from_millis(100);

/// The webhooks of the process, one an address. They stay: what was promised is delivered also after the
/// configuration changed.
pub struct Webhooks {
    /// Where events wait for the next start; the reason if there is no such place.
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
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(webhook) = started.get(&config.url) {
            *lock(&webhook.config) = config.clone();
            return Ok(webhook.clone());
        }
        let folder = self.folder.clone().map_err(anyhow::Error::msg)?;
        let webhook = Webhook::start(config, folder)?;
        started.insert(config.url.clone(), webhook.clone());
        Ok(webhook)
    }

    /// Delivers what waits as long as that succeeds and there is time; the rest waits for the next start.
    pub fn close(&self, deadline: Instant) {
        let started = std::mem::take(&mut *lock(&self.started));
        let deadline = deadline.max(Instant::now() + CLOSE);
        for webhook in started.values() {
            lock(&webhook.state).end = Some(deadline);
            webhook.changed.notify_all();
        }
        for (url, webhook) in &started {
            let left = deadline.saturating_duration_since(Instant::now());
            let thread = lock(&webhook.thread).take();
            if thread.is_some_and(|thread| !thread.ends_within(left)) {
                tracing::warn!("{}: does not answer; left behind", label(url));
            }
        }
    }

    /// Drops the events that name a person, also those that wait for an address of an earlier
    /// configuration. Returns what is not done by the deadline.
    pub fn forget(&self, forgetting: &Forgetting, deadline: Instant) -> Vec<String> {
        // None is started meanwhile.
        let started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        let all = started.iter();
        let mut late: Vec<String> = all
            .filter_map(|(url, webhook)| {
                let why = webhook.forget(forgetting, deadline).err()?;
                Some(format!("{}: {why}", label(url)))
            })
            .collect();
        let running: BTreeSet<PathBuf> = started
            .values()
            .map(|webhook| lock(&webhook.state).spool.path().to_owned())
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

/// Which events are dropped when a person is forgotten.
pub struct Forgetting<'a> {
    pub person: &'a str,
    /// The cameras that go on naming them.
    pub others: &'a BTreeSet<String>,
}

impl Forgetting<'_> {
    fn is_meant(&self, body: &str) -> bool {
        #[derive(serde::Deserialize)]
        struct Body {
            name: Option<String>,
            camera: Option<String>,
        }
        // What is no event names nobody.
        serde_json::from_str(body).is_ok_and(|body: Body| {
            body.name.as_deref() == Some(self.person)
                && !body
                    .camera
                    .is_some_and(|camera| self.others.contains(&camera))
        })
    }
}

/// One event on its way.
#[derive(Clone)]
struct Parcel {
    id: String,
    body: String,
    accepted: Instant,
    /// `None` for one of an earlier run.
    telemetry: Option<Arc<telemetry::Camera>>,
}

/// Delivers events to one address, in their order.
pub struct Webhook {
    config: Mutex<config::Webhook>,
    state: Mutex<State>,
    changed: Condvar,
    thread: Mutex<Option<Thread>>,
}

struct State {
    /// When delivery is to end, once that is known.
    end: Option<Instant>,
    waiting: VecDeque<Parcel>,
    spool: Spool,
    /// The event that is being sent.
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
        let thread = Thread::start("webhook", work).context("no thread for a webhook")?;
        *lock(&webhook.thread) = Some(thread);
        Ok(webhook)
    }

    /// Takes an event with its body, a JSON object; never waits for the network.
    pub fn send(&self, id: &str, body: &[u8], telemetry: &Arc<telemetry::Camera>) {
        let parcel = Parcel {
            id: id.to_owned(),
            body: String::from_utf8_lossy(body).into_owned(),
            accepted: Instant::now(),
            telemetry: Some(telemetry.clone()),
        };
        let mut state = lock(&self.state);
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

    /// Drops the events that are meant; one that is being sent is waited for. Fails with the reason if
    /// that is not done by the deadline.
    fn forget(&self, forgetting: &Forgetting, deadline: Instant) -> Result<(), &'static str> {
        let mut state = lock(&self.state);
        let (gone, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut state.waiting)
            .into_iter()
            .partition(|parcel| forgetting.is_meant(&parcel.body));
        state.waiting = VecDeque::from(waiting);
        if !state
            .spool
            .purge(gone.iter().map(|parcel| parcel.id.as_str()))
        {
            return Err("events that wait for it are on the disk, which cannot be written");
        }
        let is_sent = |state: &mut State| {
            let mut gone = gone.iter();
            gone.any(|parcel| state.sending.as_ref() == Some(&parcel.id))
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let (state, waited) = self
            .changed
            .wait_timeout_while(state, left, is_sent)
            .unwrap_or_else(PoisonError::into_inner);
        drop(state);
        match waited.timed_out() {
            true => Err("an event with the name is being sent to it"),
            false => Ok(()),
        }
    }

    /// The oldest event that waits, once there is one, and how long its request may take; it stays in its
    /// place. `None` at the end.
    fn first(&self) -> Option<(Parcel, Duration)> {
        let idle = |state: &mut State| state.waiting.is_empty() && state.end.is_none();
        let state = self.changed.wait_while(lock(&self.state), idle);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        let left = match state.end {
            Some(end) => end.checked_duration_since(Instant::now())?,
            None => Duration::MAX,
        };
        let first = state.waiting.front()?.clone();
        state.sending = Some(first.id.clone());
        Some((first, left))
    }

    fn sent(&self) {
        lock(&self.state).sending = None;
        self.changed.notify_all();
    }

    /// Waits, but not beyond the end; `false` then.
    fn pause(&self, pause: Duration) -> bool {
        let goes_on = |state: &mut State| state.end.is_none();
        let waited = (self.changed).wait_timeout_while(lock(&self.state), pause, goes_on);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.end.is_none()
    }

    fn done(&self, id: &str) {
        let mut state = lock(&self.state);
        // It may have been dropped meanwhile, for newer ones or because it was to be forgotten.
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What became of a request.
enum Answer {
    Taken,
    /// It will never be taken.
    Refused(String),
    /// It may be taken later.
    Failed(String),
}

fn deliver_all(webhook: &Webhook, label: &str) {
    let mut backoff = Backoff::default();
    let mut failing = false;
    while let Some((parcel, left)) = webhook.first() {
        let mut config = lock(&webhook.config).clone();
        config.timeout = config.timeout.min(left);
        let answer = post(&config, &parcel);
        webhook.sent();
        match answer {
            Answer::Taken => {
                webhook.done(&parcel.id);
                if std::mem::take(&mut failing) {
                    tracing::info!("{label}: takes events again");
                }
                backoff = Backoff::default();
            }
            Answer::Refused(why) => {
                tracing::error!(event = parcel.id, "{label}: refuses an event: {why}");
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
        // These name what cannot be sent, which may be the token or the address.
        Err(ureq::Error::Http(_) | ureq::Error::BadUri(_)) => {
            return Answer::Refused("its address or token cannot be sent".into());
        }
        Err(error) => return Answer::Failed(error.to_string()),
    };
    match status.as_u16() {
        200..=299 => Answer::Taken,
        408 | 425 | 429 | 500.. => Answer::Failed(format!("it answers {status}")),
        _ => Answer::Refused(format!("it answers {status}")),
    }
}

/// An address for the log: without path and query, which hold the secret of many services.
fn label(url: &str) -> String {
    let end = url
        .find("://")
        .map(|at| at + 3)
        .map(|start| (start, url[start..].find(['/', '?', '#'])));
    let text = match end {
        Some((start, Some(length))) => format!("{}/…", &url[..start + length]),
        _ => url.to_owned(),
    };
    // Nor with `user:password@`.
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
