//! What the accumulators of `fold` and `try_fold` cover, whichever terminal comes after them.
#![cfg(feature = "testing")]

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use common::burn;
use selvedge::cancel::checkpoint;
use selvedge::testing::lending::{Lending, with};
use selvedge::{Pool, block_on, prelude::*};

const ITEMS: u32 = 400;

fn gather(mut run: Vec<u32>, item: u32) -> Vec<u32> {
    // Long enough for others to take items meanwhile.
    burn(Duration::from_micros(5));
    run.push(item);
    run
}

async fn pause(item: u32) -> u32 {
    checkpoint().await.unwrap();
    item
}

/// Every item is in one run, and a run has neighbours only, in order.
fn check(runs: Vec<Vec<u32>>, what: &str) {
    for run in &runs {
        let neighbours = run.windows(2).all(|two| two[0] + 1 == two[1]);
        assert!(neighbours, "{what}: {run:?}");
    }
    let mut all = runs.concat();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..ITEMS), "{what}");
}

// Terminals that do not care for the order had their lanes gather all that they came by into one accumulator.
#[test]
fn accumulators_are_of_neighbours_whatever_comes_after() {
    for mode in [Lending::Never, Lending::Adaptive, Lending::Forced] {
        for threads in [0, 2] {
            let pool = Pool::builder().threads(threads).build();
            let items = || (0..ITEMS).into_par().on(&pool).heavy();
            let what = format!("{mode:?}, {threads} threads");
            with(mode, || {
                let seen = Mutex::new(Vec::new());
                let note = |run| seen.lock().unwrap().push(run);
                let taken = || std::mem::take(&mut *seen.lock().unwrap());

                block_on(items().fold(Vec::new, gather).for_each(note));
                check(taken(), &format!("for_each, {what}"));
                block_on(items().then(pause).fold(Vec::new, gather).for_each(note));
                check(taken(), &format!("then, for_each, {what}"));
                block_on(items().fold(Vec::new, gather).for_each(async |run| {
                    checkpoint().await.unwrap();
                    note(run);
                }));
                check(taken(), &format!("for_each that waits, {what}"));
                let mapped = items().fold(Vec::new, gather).map(note);
                block_on(mapped.filter(|()| true).count());
                check(taken(), &format!("count, {what}"));
                let tried = items().try_fold(Vec::new, |run, item| Ok::<_, u32>(gather(run, item)));
                let ended = block_on(tried.try_for_each(|run: Result<_, u32>| run.map(note)));
                assert_eq!(ended, Ok(()));
                check(taken(), &format!("try_for_each, {what}"));
            });
        }
    }
}

#[test]
fn first_error_of_folded_items_is_the_first_in_source_order() {
    let error = |run: &Vec<u32>| run.iter().copied().find(|item| item % 100 == 50);
    for mode in [Lending::Never, Lending::Adaptive, Lending::Forced] {
        for _ in 0..20 {
            let pool = Pool::builder().threads(2).build();
            let items = (0..ITEMS).into_par().on(&pool).heavy();
            let runs = items.fold(Vec::new, gather);
            let ended = with(mode, || {
                block_on(runs.try_for_each(|run| error(&run).map_or(Ok(()), Err)))
            });
            assert_eq!(ended, Err(50), "{mode:?}");
        }
    }
}

// Each item had an accumulator of its own: only what is gathered waits, and lanes took items one by one for that.
#[test]
fn what_is_gathered_and_then_written_is_gathered_from_many_items() {
    const MANY: u32 = 100_000;
    let push = |mut run: Vec<u32>, item| {
        run.push(item);
        run
    };
    for mode in [Lending::Never, Lending::Adaptive, Lending::Forced] {
        for threads in [0, 2] {
            let pool = Pool::builder().threads(threads).build();
            let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let write = async |run: Vec<u32>| {
                most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                checkpoint().await.unwrap();
                now.fetch_sub(1, SeqCst);
                run
            };
            let items = || (0..MANY).into_par().on(&pool);
            let what = format!("{mode:?}, {threads} threads");
            let check = |runs: Vec<Vec<u32>>, how: &str, least: usize| {
                let mean = MANY as usize / runs.len();
                assert!(mean >= least, "{how}, {what}: {} runs", runs.len());
                assert!(runs.concat().into_iter().eq(0..MANY), "{how}, {what}");
            };
            with(mode, || {
                let run = items().fold(Vec::new, push).then(write);
                check(block_on(run.collect()), "as it comes", 8);

                most.store(0, SeqCst);
                let limited = items().batch(100).concurrency(800);
                let run = limited.fold(Vec::new, push).then(write).collect();
                // Lanes take less towards the end.
                check(block_on(run), "eight by hundreds", 30);
                assert!(most.load(SeqCst) <= 8, "{what}: {most:?} at a time");

                let runs = Mutex::new(Vec::new());
                let keep = |run| runs.lock().unwrap().push(run);
                let written = items().batch(100).fold(Vec::new, push);
                block_on(written.for_each(async |run| keep(write(run).await)));
                let mut runs = runs.into_inner().unwrap();
                runs.sort_unstable();
                check(runs, "for_each", 30);

                let sum = |sum, item| sum + u64::from(item);
                let parts = items().unordered().fold(|| 0, sum);
                let parts: Vec<u64> = block_on(parts.then(async |sum| sum).collect());
                assert_eq!(parts.iter().sum::<u64>(), (0..u64::from(MANY)).sum());
            });
        }
    }
}

#[test]
fn failure_of_what_was_gathered_ends_all_and_loses_none_before() {
    for mode in [Lending::Never, Lending::Adaptive, Lending::Forced] {
        let pool = Pool::builder().threads(2).build();
        for _ in 0..20 {
            let items = (0..ITEMS).into_par().on(&pool).heavy();
            let seen = Mutex::new(Vec::new());
            let written = items.fold(Vec::new, gather).then(async |run| {
                // Those behind the failure are asked to stop.
                checkpoint().await.ok();
                seen.lock().unwrap().extend_from_slice(&run);
                run
            });
            let failed = written.try_for_each(|run: Vec<u32>| match run.contains(&250) {
                true => Err(run[0]),
                false => Ok(()),
            });
            let first = with(mode, || block_on(failed)).unwrap_err();
            let mut before = seen.into_inner().unwrap();
            before.retain(|item| *item < first);
            before.sort_unstable();
            assert!(before.into_iter().eq(0..first), "{mode:?}: {first}");
        }
    }
}
