//! What the threads of a pool are like: their stack, their names, and the function that each calls first. Not about
//! pools that cannot start or are dropped: that is `pools.rs`.

mod common;

use std::hint::black_box;
use std::process::Command;
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use common::{guarded, guarded_for, panic_of};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{Pool, block_on, scope};

const MIB: usize = 1 << 20;

/// Runs the function on a helper of the pool, which must have one thread at least, and gives back what it returns.
fn on_a_helper<R: Send>(pool: &Pool, run: impl Fn() -> R + Sync) -> R {
    let (owner, barrier) = (std::thread::current().id(), Barrier::new(2));
    let returned = Mutex::new(None);
    let meet = || {
        // Two tasks meet, so the owner has one and a helper the other.
        barrier.wait();
        if std::thread::current().id() != owner {
            *returned.lock().unwrap() = Some(run());
        }
    };
    with(Lending::Forced, || {
        block_on(
            scope(async |s| {
                s.spawn_fn(meet);
                s.spawn_fn(meet);
            })
            .on(pool),
        )
    });
    let returned = returned.lock().unwrap().take();
    returned.expect("one of the two was on a helper")
}

/// Goes down until so many bytes of stack are used, and tells how many it has seen used.
fn descend(bytes: usize) -> usize {
    #[inline(never)]
    fn below(top: usize, bytes: usize) -> usize {
        let frame = black_box([0_u8; 4 << 10]);
        let used = top.saturating_sub(std::ptr::from_ref(&frame).addr());
        let most = if used < bytes {
            below(top, bytes)
        } else {
            used
        };
        black_box(&frame);
        most
    }
    let top = 0_u8;
    below(std::ptr::from_ref(black_box(&top)).addr(), bytes)
}

#[test]
fn helper_has_the_stack_that_was_asked_for() {
    guarded(|| {
        let pool = Pool::builder().threads(1).stack_size(64 * MIB).build();
        assert!(on_a_helper(&pool, || descend(40 * MIB)) >= 40 * MIB);
    });
}

/// Runs one test of this program again, in a process with this least stack, and wants it to say that it got through.
fn inside(test: &str, least: &str) {
    guarded_for(Duration::from_secs(60), {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", test, "--nocapture", "--test-threads=1"]);
        again.env(INSIDE, "1").env("RUST_MIN_STACK", least);
        move || {
            let output = again.output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(
                output.status.success() && text.contains("it had the room"),
                "{text}{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    });
}

const INSIDE: &str = "SELVEDGE_TEST_LEAST_STACK";

#[test]
fn least_stack_of_the_environment_is_that_of_helpers_too() {
    if std::env::var_os(INSIDE).is_some() {
        let pool = Pool::builder().threads(1).build();
        assert!(on_a_helper(&pool, || descend(40 * MIB)) >= 40 * MIB);
        println!("it had the room");
        return;
    }
    inside(
        "least_stack_of_the_environment_is_that_of_helpers_too",
        "67108864",
    );
}

#[test]
fn least_stack_below_the_default_takes_nothing_from_helpers() {
    if std::env::var_os(INSIDE).is_some() {
        let pool = Pool::builder().threads(1).build();
        assert!(on_a_helper(&pool, || descend(6 * MIB)) >= 6 * MIB);
        println!("it had the room");
        return;
    }
    inside(
        "least_stack_below_the_default_takes_nothing_from_helpers",
        "1048576",
    );
}

#[test]
fn threads_have_the_name_of_the_pool_and_a_number() {
    guarded(|| {
        let name =
            |pool: &Pool| on_a_helper(pool, || std::thread::current().name().map(str::to_owned));
        let named = Pool::builder().threads(1).name("loom").build();
        assert_eq!(name(&named).as_deref(), Some("loom-0"));
        let made = Pool::builder()
            .threads(1)
            .name(format!("loom {}", 2))
            .build();
        assert_eq!(name(&made).as_deref(), Some("loom 2-0"));
        let plain = Pool::builder().threads(1).build();
        assert_eq!(name(&plain).as_deref(), Some("selvedge-0"));
    });
}

#[test]
fn name_that_no_thread_can_have_is_refused_at_once() {
    let text = panic_of(|| Pool::builder().name("lo\0om"));
    assert!(text.contains("zero byte"), "{text}");
}

#[test]
fn start_handler_runs_once_on_each_thread() {
    guarded(|| {
        let (send, receive) = channel();
        let pool = Pool::builder()
            .threads(3)
            .name("start")
            .start_handler(move |index| {
                let name = std::thread::current().name().map(str::to_owned);
                send.send((index, name)).unwrap();
            })
            .build();
        assert!(
            receive.try_recv().is_err(),
            "nothing starts before help is asked for"
        );
        for _ in 0..10 {
            on_a_helper(&pool, || ());
        }
        drop(pool);
        // The last thread that ends drops the handler, and with it the sender.
        let mut calls: Vec<_> = receive.iter().collect();
        calls.sort();
        let expected = [0, 1, 2].map(|index| (index, Some(format!("start-{index}"))));
        assert_eq!(calls, expected);
    });
}

#[test]
fn start_handler_may_use_the_pool() {
    guarded(|| {
        let (send, receive) = channel();
        let slot = Arc::new(Mutex::new(None::<Pool>));
        let seen = slot.clone();
        let pool = Pool::builder()
            .threads(2)
            .start_handler(move |_| {
                let pool = seen.lock().unwrap().clone().unwrap();
                let sum = block_on(
                    scope(async |s| s.spawn(async { 1 }).await + s.spawn(async { 2 }).await)
                        .on(&pool),
                );
                send.send(sum).unwrap();
            })
            .build();
        *slot.lock().unwrap() = Some(pool.clone());
        on_a_helper(&pool, || ());
        assert_eq!([receive.recv(), receive.recv()], [Ok(3), Ok(3)]);
        // The pool and its handler hold each other.
        *slot.lock().unwrap() = None;
    });
}

#[test]
fn start_handler_that_panics_costs_nothing_but_its_message() {
    struct PanicsAtTheEnd;
    impl Drop for PanicsAtTheEnd {
        fn drop(&mut self) {
            panic!("the destructor of a start handler");
        }
    }
    guarded(|| {
        let bomb = PanicsAtTheEnd;
        drop(
            Pool::builder()
                .start_handler(move |_| {
                    let _captured = &bomb;
                })
                .build(),
        );
        let (send, receive) = channel();
        let bomb = PanicsAtTheEnd;
        let pool = Pool::builder()
            .threads(2)
            .start_handler(move |index| {
                let _captured = &bomb;
                send.send(index).unwrap();
                panic!("a start handler");
            })
            .build();
        for _ in 0..10 {
            on_a_helper(&pool, || ());
        }
        drop(pool);
        let mut calls: Vec<_> = receive.iter().collect();
        calls.sort_unstable();
        assert_eq!(calls, [0, 1]);
    });
}
