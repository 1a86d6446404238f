//! How much stack a big future takes on its way to its place, in a build without optimisation: on every way in no
//! more than tokio's `spawn` takes, or its `block_on`. What counts is how often the future lies on the stack at a time.
//!
//! A stack that is too small ends the process, so each try is this program again, in a child process.
#![cfg(feature = "testing")]

mod ours;
mod peers;

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::process::Command;
use std::task::{Context, Poll};
use std::time::Duration;

use selvedge::SelectSafe;

use ours::OURS;
use peers::PEERS;

/// Bytes of a big future.
const BIG: usize = 128 << 10;
/// What frames differ in besides: half a future, so that one more of them is noticed.
const FRAMES: usize = BIG / 2;
/// Stack of a thread that is not measured.
const AMPLE: usize = 64 << 20;

const INSIDE: &str = "SELVEDGE_TEST_BIG_FUTURES";

/// A big future that waits for one turn. Its poll takes next to no stack.
struct Big<const N: usize> {
    room: [u8; N],
    waited: bool,
}

#[inline(never)]
fn big<const N: usize>() -> Big<N> {
    Big {
        room: [1; N],
        waited: false,
    }
}

impl<const N: usize> Future for Big<N> {
    type Output = Result<usize, ()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.waited, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(usize::from(black_box(&this.room)[N - 1])))
    }
}

impl<const N: usize> SelectSafe for Big<N> {}

/// A big thing for closures to hold.
struct Room([u8; BIG]);

impl Room {
    #[inline(never)]
    fn new() -> Self {
        Self([1; BIG])
    }

    fn look(&self) -> Result<usize, ()> {
        Ok(usize::from(black_box(&self.0)[BIG - 1]))
    }
}

const LONG: Duration = Duration::from_secs(3600);

type Way = (&'static str, fn(usize));

/// Runs `f` on a thread with that much stack.
fn on_stack<T: Send>(stack: usize, f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|threads| {
        let thread = std::thread::Builder::new().stack_size(stack);
        thread.spawn_scoped(threads, f).unwrap().join().unwrap()
    })
}

/// Whether the way is survived on a stack of that size.
fn fits(kind: &str, index: usize, stack: usize) -> bool {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "big_future_takes_no_more_stack_than_with_tokio",
            "--nocapture",
        ])
        .env(INSIDE, format!("{kind} {index} {stack}"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let overflown = String::from_utf8_lossy(&output.stderr).contains("overflow");
    let survived = text.contains("survived");
    assert!(survived != overflown, "{kind} {index}: {output:?}");
    survived
}

/// The least stack that the way is survived on, to a quarter of a future.
fn least(kind: &str, index: usize) -> usize {
    let (mut no, mut yes) = (0, 64 * BIG);
    while yes - no > BIG / 4 {
        let middle = no.midpoint(yes);
        if fits(kind, index, middle.max(BIG / 4)) {
            yes = middle;
        } else {
            no = middle;
        }
    }
    yes
}

/// The child process: one way, on one stack.
fn inside(what: &str) {
    let mut words = what.split(' ');
    let (kind, index, stack) = (
        words.next().unwrap(),
        words.next().unwrap(),
        words.next().unwrap(),
    );
    let (index, stack): (usize, usize) = (index.parse().unwrap(), stack.parse().unwrap());
    let run = if kind == "tokio" {
        PEERS[index].1
    } else {
        OURS[index].0.1
    };
    run(stack);
    println!("survived");
}

#[test]
fn big_future_takes_no_more_stack_than_with_tokio() {
    if let Ok(what) = std::env::var(INSIDE) {
        return inside(&what);
    }
    if !cfg!(debug_assertions) {
        // What an optimised build copies, on either side, is the optimiser's choice and changes with its version.
        return;
    }
    let futures = |bytes: usize| bytes as f64 / BIG as f64;
    let references: Vec<_> = (0..PEERS.len())
        .map(|index| least("tokio", index))
        .collect();
    for (reference, (name, _)) in references.iter().zip(PEERS) {
        println!("{name}: {:.2}", futures(*reference));
    }
    let mut worse = Vec::new();
    for (index, ((name, _), reference)) in OURS.iter().enumerate() {
        let most = references[*reference] + FRAMES;
        if std::env::var_os("SELVEDGE_TEST_REPORT").is_some() {
            println!(
                "{name}: {:.2} of {:.2}",
                futures(least("ours", index)),
                futures(most)
            );
        } else if !fits("ours", index, most) {
            worse.push(format!(
                "{name}: {:.2} of {:.2}",
                futures(least("ours", index)),
                futures(most)
            ));
        }
    }
    assert!(worse.is_empty(), "stack in big futures: {worse:#?}");
}
