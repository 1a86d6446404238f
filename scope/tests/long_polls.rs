//! Somebody on the scope's own thread is in a long poll, and somebody else becomes ready, called from outside: a helper polls
//! him meanwhile.
#![cfg(not(selvedge_loom))]

mod common;

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread::ThreadId;
use std::time::Duration;

use common::{Signal, burn, guarded_for};
use selvedge_scope::time::sleep;
use selvedge_scope::{Pool, block_on, join_all, scope};

/// So long a poll waits for what comes soon, if it comes.
const MOST: Duration = Duration::from_secs(5);
/// A poll that is long for sure.
const LONG: Duration = Duration::from_millis(1);
/// So often a kind is seen before it is known well.
const SEEN: usize = 20;

/// What a round is about.
#[derive(Default)]
struct Round {
    /// Who rests.
    rests: Mutex<Option<Waker>>,
    called: AtomicBool,
    served: Signal,
    /// Who calls lets so much time pass first.
    after: Duration,
}

impl Round {
    /// Rests until he is called.
    async fn rest(&self) {
        poll_fn(|cx| {
            *self.rests.lock().unwrap() = Some(cx.waker().clone());
            match self.called.load(Ordering::SeqCst) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        self.served.give();
    }

    /// Polled again and again until he rests.
    async fn has_come_to_rest(&self) {
        poll_fn(|cx| {
            if self.rests.lock().unwrap().is_some() {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// In one poll: has him called by a thread, and waits until he was polled.
    fn is_served(self: &Arc<Self>) -> bool {
        let round = self.clone();
        std::thread::spawn(move || {
            burn(LONG + round.after);
            round.called.store(true, Ordering::SeqCst);
            let waker = round.rests.lock().unwrap().take();
            waker.expect("he rests").wake();
        });
        self.served.wait(MOST)
    }
}

/// In its one poll computes, or does so for as long as somebody else is not served, if it is the owner's thread that polls.
async fn long(round: &Arc<Round>, is_test: bool, owner: ThreadId, late: &AtomicUsize) {
    if is_test && std::thread::current().id() == owner {
        late.fetch_add(usize::from(!round.is_served()), Ordering::SeqCst);
    } else {
        burn(LONG);
        round.called.store(true, Ordering::SeqCst);
        let waker = round.rests.lock().unwrap().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Who {
    Body,
    Child,
    /// Before the short ones, which helpers have done, and are gone, when somebody is called.
    First,
    Member,
}

/// How often somebody was not served. With `short` ones, of which helpers have some, and are gone again when it gets long.
fn late(who: Who, is_test: bool, short: usize, pool: &Pool) -> usize {
    let after = match who {
        Who::First => 20 * LONG,
        Who::Body | Who::Child | Who::Member => Duration::ZERO,
    };
    let round = Arc::new(Round {
        after,
        ..Round::default()
    });
    let (owner, late) = (std::thread::current().id(), AtomicUsize::new(0));
    let long = async || long(&round, is_test, owner, &late).await;
    let few = async || burn(LONG);
    match who {
        Who::Body => block_on(
            scope(async |s| {
                drop(s.spawn(round.rest()));
                for _ in 0..short {
                    drop(s.spawn(few()));
                }
                round.has_come_to_rest().await;
                long().await;
            })
            .on(pool),
        ),
        Who::Child => block_on(
            scope(async |s| {
                drop(s.spawn(round.rest()));
                for _ in 0..short {
                    drop(s.spawn(few()));
                }
                drop(s.spawn(long()));
            })
            .on(pool),
        ),
        Who::First => block_on(
            scope(async |s| {
                drop(s.spawn(round.rest()));
                drop(s.spawn(long()));
                for _ in 0..short {
                    drop(s.spawn(few()));
                }
            })
            .on(pool),
        ),
        Who::Member => {
            let kinds = 0..2 + short;
            let member = async |n| match n {
                0 => round.rest().await,
                1 => long().await,
                _ => few().await,
            };
            block_on(join_all(kinds.map(|n| Box::pin(member(n)))).on(pool));
        }
    }
    late.into_inner()
}

// Only beside a child that was long and alone was a helper asked for, of a pool that had helped before.
#[test]
fn who_is_called_during_a_long_poll_is_served_by_a_helper() {
    guarded_for(Duration::from_secs(240), || {
        for who in [Who::Body, Who::Child, Who::First, Who::Member] {
            for short in [0, 4] {
                let pool = Pool::builder().threads(2).build();
                for _ in 0..SEEN {
                    late(who, false, short, &pool);
                }
                let late = (0..SEEN)
                    .map(|_| late(who, true, short, &pool))
                    .sum::<usize>();
                // One may be polled by the owner before it is at rest.
                assert!(late <= 2, "{who:?} beside {short}: {late} of {SEEN}");
            }
        }
    });
}

/// The same with a poll that is the first of its kind, or the first long one. The kinds are this function's own.
fn is_late_once<const BY_BODY: bool>() -> bool {
    let pool = Pool::builder().threads(2).build();
    let (round, late) = (Arc::new(Round::default()), AtomicUsize::new(0));
    let owner = std::thread::current().id();
    block_on(
        scope(async |s| {
            drop(s.spawn(round.rest()));
            round.has_come_to_rest().await;
            let long = long(&round, true, owner, &late);
            if BY_BODY {
                long.await;
            } else {
                // In a window of its own, whose body is known.
                for _ in 0..3 {
                    sleep(LONG).await.unwrap();
                }
                drop(s.spawn(long));
            }
        })
        .on(&pool),
    );
    late.into_inner() > 0
}

// A body whose polls are short until one comes that is not: the first poll of a body says nothing of the later ones. And the
// first poll of a child's kind is as long as it likes; nobody asked for whoever was woken meanwhile.
#[test]
fn who_is_called_during_the_first_long_poll_of_a_kind_is_served_by_a_helper() {
    guarded_for(Duration::from_secs(60), || {
        assert!(!is_late_once::<true>(), "beside the body");
        assert!(!is_late_once::<false>(), "beside a child");
    });
}
