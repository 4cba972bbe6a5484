//! How many puts are under way: more while all is well, half as many when AWS or the line asks for patience.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// EBS takes about 0.1 s for a block, and at most 1,000 blocks a second: so many at a time use it well.
const MOST: usize = 64;
/// A line of 10 Mbit/s brings these within a put's time limit.
const FIRST: f64 = 16.0;
/// Many are refused at the same moment: that is one request to slow down.
const ONE_REQUEST: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Pace {
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug)]
struct State {
    allowed: f64,
    under_way: usize,
    slowed: Option<Instant>,
}

/// The right to one put.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Pace);

impl Pace {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State { allowed: FIRST, under_way: 0, slowed: None }), freed: Notify::new() }
    }

    pub(crate) async fn turn(&self) -> Turn<'_> {
        loop {
            let freed = self.freed.notified();
            if self.lock().take() {
                // There may be room for more than the one that was woken.
                self.freed.notify_one();
                return Turn(self);
            }
            freed.await;
        }
    }

    pub(crate) fn went_well(&self) {
        let mut state = self.lock();
        // Quickly up to the first trouble, and one more a round after it.
        state.allowed += if state.slowed.is_none() { 1.0 } else { 1.0 / state.allowed };
        state.allowed = state.allowed.min(MOST as f64);
    }

    pub(crate) fn slow_down(&self) {
        let mut state = self.lock();
        if state.slowed.is_none_or(|when| when.elapsed() > ONE_REQUEST) {
            state.slowed = Some(Instant::now());
            state.allowed = (state.allowed / 2.0).max(1.0);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self) -> bool {
        let has_room = self.under_way < self.allowed as usize;
        self.under_way += usize::from(has_room);
        has_room
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().under_way -= 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_turns_than_are_allowed() {
        let pace = Pace::new();
        let mut turns = Vec::new();
        for _ in 0..16 {
            turns.push(pace.turn().await);
        }
        assert!(!pace.lock().take());
        pace.slow_down();
        pace.slow_down();
        assert!((pace.lock().allowed - 8.0).abs() < 0.1, "two at one moment count once");
        turns.truncate(7);
        drop(pace.turn().await);
    }

    #[tokio::test]
    async fn grows_while_all_is_well() {
        let pace = Pace::new();
        (0..500).for_each(|_| pace.went_well());
        assert_eq!(pace.lock().allowed as usize, MOST);
        pace.slow_down();
        pace.went_well();
        assert_eq!(pace.lock().allowed as usize, 32);
    }
}
