//! Turns: who may run a model next when more stages want to than there are places.
//!
//! A place goes to the stage that was served longest ago, so that forty streams share one machine
//! and none of them starves. Weights make the turns of some stages count for less. A caller that
//! cannot wait indefinitely says how long it can. It is turned away at once if its turn would
//! surely come too late.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A party that asks for turns: one stage of a stream.
#[derive(Debug)]
pub struct Asker {
    /// The number of its last turn; turns are numbered in order. It is 0 before the first turn,
    /// which therefore comes at once: a camera that starts runs each of its models a few times.
    last: AtomicU64,
    weight: u64,
}

/// When all want turns, a detector gets this many for each one of another stage. Without boxes
/// there are no tracks, and each new track costs the other stages more than one that goes on.
const DETECTION: u64 = 6;

impl Asker {
    pub fn detection() -> Self {
        Self::new(DETECTION)
    }

    pub fn other() -> Self {
        Self::new(1)
    }

    fn new(weight: u64) -> Self {
        Self {
            last: AtomicU64::new(0),
            weight,
        }
    }

    fn claim(&self) -> Claim {
        Claim {
            last: self.last.load(Ordering::Relaxed),
            weight: self.weight,
        }
    }
}

/// What decides about a caller's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Claim {
    last: u64,
    weight: u64,
}

impl Claim {
    /// Higher urgency is served sooner. `given` is the number of turns given so far.
    fn urgency(&self, given: u64) -> u64 {
        given.saturating_sub(self.last).saturating_mul(self.weight)
    }
}

/// The waiting callers. Free of clocks and threads.
#[derive(Debug)]
struct Line<T> {
    free: usize,
    /// Turns given so far.
    given: u64,
    arrivals: u64,
    /// In the order of arrival.
    waiting: Vec<(u64, Claim, T)>,
}

impl<T> Line<T> {
    fn new(places: usize) -> Self {
        Self {
            free: places.max(1),
            given: 0,
            arrivals: 0,
            waiting: Vec::new(),
        }
    }

    /// Takes a free place and returns the number of the turn.
    fn take(&mut self) -> Option<u64> {
        self.free = self.free.checked_sub(1)?;
        self.given += 1;
        Some(self.given)
    }

    /// How many of the waiting go before `claim`.
    fn ahead(&self, claim: Claim) -> usize {
        let own = claim.urgency(self.given);
        let goes_before = |other: &Claim| other.urgency(self.given) >= own;
        self.waiting
            .iter()
            .filter(|(_, c, _)| goes_before(c))
            .count()
    }

    /// Queues a caller. Returns a number by which it can leave.
    fn wait(&mut self, claim: Claim, who: T) -> u64 {
        self.arrivals += 1;
        self.waiting.push((self.arrivals, claim, who));
        self.arrivals
    }

    /// Removes a caller that no longer waits.
    fn leave(&mut self, arrival: u64) {
        self.waiting.retain(|(theirs, _, _)| *theirs != arrival);
    }

    /// Frees a place. Returns who gets it, and the number of the turn.
    fn give_back(&mut self) -> Option<(T, u64)> {
        let key = |(arrival, claim, _): &(u64, Claim, T)| {
            (claim.urgency(self.given), std::cmp::Reverse(*arrival))
        };
        let keys = self.waiting.iter().map(key).enumerate();
        let Some((next, _)) = keys.max_by_key(|(_, key)| *key) else {
            self.free += 1;
            return None;
        };
        self.given += 1;
        Some((self.waiting.swap_remove(next).2, self.given))
    }
}

/// A thread that waits for its turn.
#[derive(Debug)]
struct Waiting {
    thread: Thread,
    /// The number of its turn, once it has one.
    turn: AtomicU64,
}

#[derive(Debug)]
struct State {
    line: Line<Arc<Waiting>>,
    /// The running mean of a turn's duration, in seconds.
    mean: f64,
}

/// A number of places, and the queue for them.
#[derive(Debug)]
pub struct Gate {
    places: usize,
    state: Mutex<State>,
    /// Whether callers that cannot wait for ever are turned away.
    closed: AtomicBool,
}

/// The weight of the last turn in the mean.
const NEWEST: f64 = 1.0 / 16.0;

/// A caller is turned away only if the wait is too long even for turns of this fraction of the
/// mean: a mean says little about a single turn.
const DOUBT: f64 = 0.5;

impl Gate {
    pub fn new(places: usize) -> Self {
        let places = places.max(1);
        Self {
            places,
            state: Mutex::new(State {
                line: Line::new(places),
                mean: 0.0,
            }),
            closed: AtomicBool::new(false),
        }
    }

    /// Waits for a place. Returns `None` if there is none within `patience`, or if none can be
    /// expected. Without `patience` it waits as long as it takes. A thread that has a place must
    /// not ask for another.
    pub fn turn(&self, asker: &Asker, patience: Option<Duration>) -> Option<Turn<'_>> {
        let begin = Instant::now();
        if patience.is_some() && self.closed.load(Ordering::Relaxed) {
            return None;
        }
        let claim = asker.claim();
        let me = Arc::new(Waiting {
            thread: std::thread::current(),
            turn: AtomicU64::new(0),
        });
        let arrival = {
            let mut state = self.state.lock();
            if let Some(number) = state.line.take() {
                drop(state);
                return Some(self.begin(asker, number));
            }
            let turns = (state.line.ahead(claim) + 1) as f64 / self.places as f64;
            let expected = turns * state.mean * DOUBT;
            if patience.is_some_and(|patience| expected > patience.as_secs_f64()) {
                return None;
            }
            state.line.wait(claim, me.clone())
        };
        loop {
            match me.turn.load(Ordering::Acquire) {
                0 => {}
                number => return Some(self.begin(asker, number)),
            }
            let Some(patience) = patience else {
                std::thread::park();
                continue;
            };
            let left = patience.saturating_sub(begin.elapsed());
            if !left.is_zero() && !self.closed.load(Ordering::Relaxed) {
                std::thread::park_timeout(left);
                continue;
            }
            let mut state = self.state.lock();
            // Turns are given while the state is locked, so none can come from here on.
            match me.turn.load(Ordering::Acquire) {
                0 => {
                    state.line.leave(arrival);
                    return None;
                }
                number => {
                    drop(state);
                    return Some(self.begin(asker, number));
                }
            }
        }
    }

    fn begin(&self, asker: &Asker, number: u64) -> Turn<'_> {
        asker.last.fetch_max(number, Ordering::Relaxed);
        Turn {
            gate: self,
            begin: Instant::now(),
        }
    }

    fn end(&self, took: Duration) {
        let mut state = self.state.lock();
        state.mean += (took.as_secs_f64() - state.mean) * NEWEST;
        if let Some((next, number)) = state.line.give_back() {
            next.turn.store(number, Ordering::Release);
            next.thread.unpark();
        }
    }

    /// Turns away all callers that cannot wait for ever, until it is opened again. For a program
    /// that ends and needs only to finish the frames under way.
    pub fn close(&self, closed: bool) {
        self.closed.store(closed, Ordering::Relaxed);
        for (_, _, waiting) in &self.state.lock().line.waiting {
            waiting.thread.unpark();
        }
    }
}

/// The right to run a model, while it lives.
#[must_use]
#[derive(Debug)]
pub struct Turn<'a> {
    gate: &'a Gate,
    begin: Instant,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.gate.end(self.begin.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    const fn last(last: u64) -> Claim {
        Claim { last, weight: 1 }
    }

    #[test]
    fn who_was_served_longest_ago_goes_first() {
        let mut line = Line::new(2);
        assert_eq!(
            (line.take(), line.take(), line.take()),
            (Some(1), Some(2), None)
        );
        line.wait(last(2), "second");
        line.wait(last(1), "first");
        line.wait(last(2), "third");
        line.wait(last(0), "new");
        let impatient = line.wait(last(0), "impatient");
        assert_eq!([0, 1, 9].map(|n| line.ahead(last(n))), [2, 3, 5]);
        line.leave(impatient);
        let order: Vec<_> = (0..5).map(|_| line.give_back()).collect();
        let turn = |who, number| Some((who, number));
        assert_eq!(
            order,
            [
                turn("new", 3),
                turn("first", 4),
                turn("second", 5),
                turn("third", 6),
                None
            ]
        );
        assert_eq!(line.take(), Some(7));
    }

    /// How often each caller is served if all of them always ask.
    fn served(weights: &[u64], turns: usize) -> Vec<u32> {
        let mut line = Line::new(1);
        line.take();
        let mut served = vec![0; weights.len()];
        for (who, &weight) in weights.iter().enumerate() {
            line.wait(Claim { last: 0, weight }, who);
        }
        for _ in 0..turns {
            let (who, last) = line.give_back().expect("somebody waits");
            served[who] += 1;
            let weight = weights[who];
            line.wait(Claim { last, weight }, who);
        }
        served
    }

    #[test]
    fn forty_that_always_ask_are_served_alike() {
        assert_eq!(served(&[1; 40], 4000), [100; 40]);
    }

    #[test]
    fn detectors_are_served_more_often_and_nobody_starves() {
        let weights: Vec<u64> = (0..60).map(|n| [DETECTION, 1, 1][n % 3]).collect();
        let served = served(&weights, 16_000);
        for (weight, served) in weights.iter().zip(&served) {
            let wanted = 16_000 / 160 * *weight as u32;
            assert!(served.abs_diff(wanted) <= wanted / 10, "{weight}: {served}");
        }
    }

    #[test]
    fn no_more_are_inside_than_there_are_places() {
        let gate = Gate::new(3);
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let asker = Asker::other();
                    for round in 0..200 {
                        let patience = (round % 2 == 0).then_some(Duration::from_secs(60));
                        let Some(_turn) = gate.turn(&asker, patience) else {
                            continue;
                        };
                        let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 3);
        let state = gate.state.lock();
        assert_eq!((state.line.free, state.line.waiting.len()), (3, 0));
    }

    #[test]
    fn the_impatient_are_turned_away_and_the_patient_wait() {
        let gate = Gate::new(1);
        let (here, there) = (Asker::other(), Asker::other());
        let first = gate.turn(&here, None).expect("it is free");
        assert!(gate.turn(&there, Some(Duration::ZERO)).is_none());
        assert!(gate.turn(&there, Some(Duration::from_millis(2))).is_none());
        assert!(
            gate.state.lock().line.waiting.is_empty(),
            "nobody is left behind"
        );
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let turn = gate.turn(&there, Some(Duration::from_secs(3600)));
                sender.send(turn.is_some()).expect("somebody listens");
            });
            while gate.state.lock().line.waiting.is_empty() {
                std::thread::yield_now();
            }
            drop(first);
            assert_eq!(receiver.recv(), Ok(true));
        });
    }

    #[test]
    fn a_turn_that_would_come_too_late_is_not_waited_for() {
        let gate = Gate::new(1);
        let asker = Asker::other();
        let _turn = gate.turn(&asker, None);
        // Turns take an hour here, so even a minute's patience is in vain.
        gate.state.lock().mean = 3600.0;
        assert!(gate.turn(&asker, Some(Duration::from_secs(60))).is_none());
    }

    #[test]
    fn a_closed_gate_lets_only_those_in_that_wait_for_ever() {
        let gate = Gate::new(1);
        let asker = Asker::other();
        let turn = gate.turn(&asker, None);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                gate.turn(&Asker::other(), Some(Duration::from_secs(3600)))
                    .is_some()
            });
            while gate.state.lock().line.waiting.is_empty() {
                std::thread::yield_now();
            }
            gate.close(true);
            assert!(!waits.join().expect("no panic"));
        });
        drop(turn);
        assert!(gate.turn(&asker, Some(Duration::from_secs(1))).is_none());
        assert!(gate.turn(&asker, None).is_some());
        gate.close(false);
        assert!(gate.turn(&asker, Some(Duration::from_secs(1))).is_some());
    }
}
