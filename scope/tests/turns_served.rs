//! Equal children that others wake again as soon as they have had their turn, as clients of a server do: all are served
//! about as often, on the owner and on helpers. Counted.
#![cfg(not(selvedge_loom))]

mod common;

use std::future::poll_fn;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::time::Duration;

use common::{MODES, burn, guarded, pool};
use selvedge_scope::{block_on, lending, scope};

const CHILDREN: usize = 200;
const TURNS: usize = 100 * CHILDREN;

/// How often each was served.
fn served(mode: lending::Lending, cost: Duration) -> Vec<usize> {
    let pool = pool(1);
    let counts: Vec<AtomicUsize> = (0..CHILDREN).map(|_| AtomicUsize::new(0)).collect();
    let slots: Vec<Mutex<Option<Waker>>> = (0..CHILDREN).map(|_| Mutex::new(None)).collect();
    let (total, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (to_clients, clients) = mpsc::channel::<usize>();
    let (counts, slots, total, over) = (&counts, &slots, &total, &over);
    std::thread::scope(|threads| {
        // The clients: each asks again when it has its answer, in the order of the answers.
        threads.spawn(move || {
            for id in clients {
                let waker = slots[id].lock().unwrap().take();
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        });
        lending::with(mode, || {
            block_on(
                scope(async move |s| {
                    for id in 0..CHILDREN {
                        let to_clients = to_clients.clone();
                        s.spawn(poll_fn(move |cx| {
                            if over.load(Ordering::SeqCst) {
                                return Poll::Ready(());
                            }
                            counts[id].fetch_add(1, Ordering::SeqCst);
                            burn(cost);
                            *slots[id].lock().unwrap() = Some(cx.waker().clone());
                            if total.fetch_add(1, Ordering::SeqCst) + 1 == TURNS {
                                over.store(true, Ordering::SeqCst);
                            }
                            to_clients.send(id).unwrap();
                            Poll::<()>::Pending
                        }));
                    }
                })
                .on(&pool),
            );
        });
    });
    counts
        .iter()
        .map(|count| count.load(Ordering::SeqCst))
        .collect()
}

#[test]
fn children_that_are_woken_in_turn_are_served_about_as_often() {
    guarded(|| {
        for mode in MODES {
            for cost in [Duration::ZERO, Duration::from_micros(10)] {
                // A thread that the system puts aside for long leaves the others to go on among themselves: once is no
                // proof. A queue that is not fair shows it each time.
                let mut seen = Vec::new();
                let is_fair = (0..8).any(|tried| {
                    // Nor are several while the machine has something else to do.
                    std::thread::sleep(Duration::from_millis(50) * tried);
                    let mut counts = served(mode, cost);
                    counts.sort_unstable();
                    let (least, most) = (counts[0], counts[CHILDREN - 1]);
                    seen.push((least, most));
                    // With helpers it depends a little on who comes when.
                    match mode {
                        lending::Lending::Never => 3 * most <= 4 * least,
                        _ => most <= 2 * least,
                    }
                });
                assert!(is_fair, "{mode:?}, {cost:?}: {seen:?}");
            }
        }
    });
}
