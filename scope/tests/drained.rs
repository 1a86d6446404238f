//! The budget of a window is spent, and a helper is in a long poll: the poll of the scope cannot end before that does. What
//! other helpers bring meanwhile, and what becomes ready here, goes on (rule W9).
#![cfg(not(selvedge_loom))]

mod common;

#[cfg(feature = "tokio")]
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::hosts::multi;
use common::{Signal, burn, guarded_for, on_helper, pool};
use selvedge_cancel::{cancelled, checkpoint};
use selvedge_scope::{Pool, Scope, block_on, scope};

/// So long a child waits for what comes soon, if it comes.
const MOST: Duration = Duration::from_secs(10);
/// More than a budget of any executor's.
const LONG: Duration = Duration::from_millis(60);

/// What a helper brings whose child stops after the budget.
#[derive(Clone, Copy, Debug)]
enum News {
    /// The child is ready again.
    Again,
    /// Its end, for which the body waits.
    Body,
    /// The scope's cancellation, for which another child waits.
    Cancelled,
}

/// Two children meet on helpers; one is in one poll until what the other brings has been attended to. Whether both were on
/// helpers.
async fn brought(news: News, pool: &Pool) -> bool {
    let (attended, helpers, late) = (Signal::default(), AtomicUsize::new(0), AtomicUsize::new(0));
    let (attended, helpers, late) = (&attended, &helpers, &late);
    // Only what a helper polls is in a thread's way that the owner does not need.
    let stays = async move || {
        if on_helper() {
            helpers.fetch_add(1, Ordering::SeqCst);
            late.fetch_add(usize::from(!attended.wait(MOST)), Ordering::SeqCst);
        }
    };
    let brings = async move |s: Scope<'_>| {
        helpers.fetch_add(usize::from(on_helper()), Ordering::SeqCst);
        burn(LONG);
        match news {
            News::Again => {
                checkpoint().await.unwrap();
                attended.give();
            }
            News::Body => {}
            News::Cancelled => s.cancel(),
        }
    };
    scope(async |s| {
        drop(s.spawn(async move {
            cancelled().await;
            attended.give();
        }));
        drop(s.spawn(async { burn(Duration::from_millis(2)) }));
        drop(s.spawn(stays()));
        s.spawn(brings(s.clone())).await;
        if let News::Body = news {
            attended.give();
        }
        s.cancel();
    })
    .on(pool)
    .heavy()
    .await;
    assert_eq!(late.load(Ordering::SeqCst), 0, "{news:?}");
    helpers.load(Ordering::SeqCst) == 2
}

// The owner slept until the longest poll of a helper was over.
#[test]
fn what_a_helper_brings_is_attended_to_while_another_is_in_a_long_poll() {
    guarded_for(Duration::from_secs(240), || {
        let pool = pool(2);
        for news in [News::Again, News::Body, News::Cancelled] {
            for host in 0..3 {
                let mut both = 0;
                for _ in 0..200 {
                    let brought = brought(news, &pool);
                    both += u32::from(match host {
                        0 => block_on(brought),
                        1 => futures::executor::block_on(brought),
                        _ => multi(2).block_on(brought),
                    });
                    if both == 4 {
                        break;
                    }
                }
                assert!(both > 0, "{news:?}, {host}: never on two helpers");
            }
        }
    });
}

#[cfg(feature = "tokio")]
/// A body that yields to tokio while a helper is in one poll. Whether that was so.
async fn body_yields(pool: Pool) -> bool {
    let (attended, helped, late) = (
        Signal::default(),
        AtomicBool::new(false),
        AtomicBool::new(false),
    );
    scope(async |s| {
        drop(s.spawn(async { burn(Duration::from_millis(6)) }));
        drop(s.spawn(async {
            if on_helper() {
                helped.store(true, Ordering::SeqCst);
                late.store(!attended.wait(MOST), Ordering::SeqCst);
            }
        }));
        checkpoint().await.unwrap();
        for _ in 0..200 {
            tokio::task::yield_now().await;
            burn(Duration::from_micros(100));
        }
        attended.give();
    })
    .on(&pool)
    .heavy()
    .await;
    assert!(!late.load(Ordering::SeqCst), "the body did not go on");
    helped.load(Ordering::SeqCst)
}

// What tokio has put off wakes the body on this very thread, when the worker begins to wait.
#[cfg(feature = "tokio")]
#[test]
fn body_that_yields_to_tokio_goes_on_while_a_helper_is_in_a_long_poll() {
    guarded_for(Duration::from_secs(120), || {
        for workers in [1, 2] {
            let (pool, runtime) = (pool(1), multi(workers));
            let mut helped = 0;
            for _ in 0..10 {
                let round = runtime.spawn(body_yields(pool.clone()));
                helped += u32::from(runtime.block_on(round).unwrap());
            }
            assert!(helped > 0, "{workers} workers: never on a helper");
        }
    });
}
