//! A child that was spawned and polled on a helper is the owner's only once it is registered: here, when a child
//! begins to lend in the midst of a stretch of polls and then wakes such a newborn on the owner's thread. Without
//! the exchange in between the owner polled and freed it first; AddressSanitizer sees that, and so does a hang.

mod common;

use std::future::poll_fn;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use common::{burn, guarded, pool};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{Pool, Scope, scope};

/// What the children of one round share; leaked, because they hold handles to their own scope.
struct Round {
    owner: ThreadId,
    spawned: AtomicBool,
    resting: AtomicBool,
    woken: AtomicBool,
    waker: Mutex<Option<Waker>>,
    /// How often the owner polled what had come to rest on a helper.
    reached: AtomicUsize,
}

impl Round {
    fn on_owner(&self) -> bool {
        thread::current().id() == self.owner
    }

    /// Rests at its first poll, unless it is too late to be woken.
    async fn newborn(&'static self) {
        let mut first = None;
        poll_fn(move |cx| {
            let Some(began_away) = first else {
                first = Some(!self.on_owner());
                let mut waker = self.waker.lock().unwrap();
                if self.woken.load(Ordering::SeqCst) {
                    return Poll::Ready(());
                }
                *waker = Some(cx.waker().clone());
                self.resting.store(true, Ordering::SeqCst);
                return Poll::Pending;
            };
            if began_away && self.on_owner() {
                self.reached.fetch_add(1, Ordering::SeqCst);
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Worth lending; the first that a helper polls spawns the newborn there.
    async fn heavy(&'static self, s: Option<Scope<'static>>) {
        if let Some(s) = s {
            if !self.on_owner() && !self.spawned.swap(true, Ordering::SeqCst) {
                drop(s.spawn(self.newborn()));
            }
        }
        burn(Duration::from_micros(300));
    }

    /// Spawns for long, so that it begins to lend in its own poll; then wakes the newborn. `KIND` makes it a type
    /// whose cost nobody knows.
    async fn spawner<const KIND: u32>(&'static self, s: Scope<'static>) {
        for _ in 0..3 + KIND % 5 {
            let mut yielded = false;
            poll_fn(|cx| {
                if std::mem::replace(&mut yielded, true) {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
        for _ in 0..15 {
            drop(s.spawn(self.heavy(Some(s.clone()))));
        }
        let from = Instant::now();
        while !self.resting.load(Ordering::SeqCst) && from.elapsed() < Duration::from_millis(60) {
            thread::yield_now();
        }
        let waker = {
            let mut waker = self.waker.lock().unwrap();
            self.woken.store(true, Ordering::SeqCst);
            waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Whether the newborn was woken in the stretch and polled by the owner.
fn round<const KIND: u32>(pool: &Pool) -> bool {
    let round: &'static Round = Box::leak(Box::new(Round {
        owner: thread::current().id(),
        spawned: AtomicBool::new(false),
        resting: AtomicBool::new(false),
        woken: AtomicBool::new(false),
        waker: Mutex::new(None),
        reached: AtomicUsize::new(0),
    }));
    // What the heavy ones cost is learnt first.
    let learn = scope(async |s: Scope<'static>| {
        for _ in 0..8 {
            drop(s.spawn(round.heavy(None)));
        }
    });
    with(Lending::Never, || futures::executor::block_on(learn));
    let spawn = scope(async |s: Scope<'static>| drop(s.spawn(round.spawner::<KIND>(s.clone()))));
    with(Lending::Adaptive, || {
        futures::executor::block_on(spawn.on(pool));
    });
    round.reached.load(Ordering::SeqCst) > 0
}

#[test]
fn newborn_woken_in_the_stretch_in_which_lending_began_is_registered_before_it_ends() {
    guarded(|| {
        let pool = pool(1);
        let rounds: [fn(&Pool) -> bool; 10] = [
            round::<0>, round::<1>, round::<2>, round::<3>, round::<4>, round::<5>, round::<6>,
            round::<7>, round::<8>, round::<9>,
        ];
        let reached = rounds.iter().filter(|round| round(&pool)).count();
        assert!(reached > 0, "the owner never polled such a newborn");
    });
}
