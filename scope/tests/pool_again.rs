//! A pool whose threads cannot be had for a while. Alone in its program, whose memory is limited meanwhile.
#![cfg(all(target_os = "linux", target_pointer_width = "64", not(selvedge_loom)))]

mod common;

use std::process::{Command, id};
use std::time::Duration;

use common::{attempts, guarded, on_helper};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{Pool, block_on, scope};

/// So much address space a thread of the pool takes.
const STACK: usize = 1 << 30;

/// Sets how much address space this process may have, until it is set again.
fn limit(bytes: &str) -> bool {
    let limit = format!("--as={bytes}:unlimited");
    let mut set = Command::new("prlimit");
    let set = set.args(["--pid", &id().to_string(), &limit]).status();
    set.is_ok_and(|status| status.success())
}

fn address_space() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').next().unwrap().parse::<usize>().unwrap() * 4096
}

/// A while on some thread; whether that is a helper's.
fn works() -> bool {
    std::thread::sleep(Duration::from_millis(2));
    on_helper()
}

/// Whether a thread of the pool helps.
fn helps(pool: &Pool) -> bool {
    let two = scope(async |s| {
        let (a, b) = (s.spawn_fn(works), s.spawn_fn(works));
        a.await | b.await
    });
    with(Lending::Forced, || block_on(two.on(pool)))
}

// One moment without threads switched the pool off for the rest of the process.
#[test]
fn pool_that_could_not_be_started_is_started_later() {
    guarded(|| {
        let pool = Pool::builder().threads(1).stack_size(STACK).build();
        // Whoever lacks the program has no such limits to lift either.
        if !limit(&(address_space() + STACK / 2).to_string()) {
            return;
        }
        let helped = helps(&pool);
        // A scope that goes on meanwhile has help afterwards, too.
        let goes_on = scope(async |s| {
            let both = async || {
                let (a, b) = (s.spawn_fn(works), s.spawn_fn(works));
                a.await | b.await
            };
            let in_vain = both().await | both().await;
            assert!(limit("unlimited"));
            assert!(!helped && !in_vain, "there was room for its threads");
            for () in attempts() {
                if both().await {
                    return true;
                }
            }
            false
        });
        let helped = with(Lending::Forced, || block_on(goes_on.on(&pool)));
        assert!(helped, "no thread comes to a scope that has asked in vain");
        assert!(helps(&pool), "no thread comes any more");
    });
}
