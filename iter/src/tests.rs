//! Lanes on threads of their own, without a window: true parallelism at every step, so that a
//! lost wake shows as a hang and a lost item as a wrong result. What a whole pipeline gives is
//! tested in the façade's `tests/par_*.rs`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;

use futures::executor::block_on;
use futures::{SinkExt, Stream, StreamExt, channel::mpsc, stream};
use selvedge_cancel::CancelToken;

use crate::biting::guarded;
use crate::drive::has_runs;
use crate::lane::Lane;
use crate::pipe::Pipe;
use crate::plan::{Knobs, Plan};
use crate::shared::Shared;
use crate::sink::Sink;
use crate::sink::attempt::TryForEach;
use crate::sink::gather::Collect;
use crate::sink::reduce::{Fallible, Reduce, WithIdentity};
use crate::source::Source;
use crate::source::iter::FromIter;
use crate::source::range::FromRange;
use crate::source::stream::FromStream;
use crate::stage::each::Each;
use crate::stage::fold::{Fold, TryFold};
use crate::stage::map::Map;
use crate::stage::then::Then;

/// Runs every lane on a thread of its own; `Err` if one of them panicked.
fn on_threads<P: Pipe, S: Sink<P::Item>>(pipe: P, sink: S, knobs: &Knobs) -> Result<S::Out, ()> {
    under_token(pipe, sink, knobs, &CancelToken::new())
}

/// As `on_threads`; a failure cancels `token`.
fn under_token<P: Pipe, S: Sink<P::Item>>(
    pipe: P,
    sink: S,
    knobs: &Knobs,
    token: &CancelToken,
) -> Result<S::Out, ()> {
    let plan = Plan::new::<P>(knobs, 3, pipe.source().upper());
    let runs = has_runs::<P, S>(knobs);
    let lanes = plan.lanes;
    let shared = Arc::new(Shared::new(
        pipe,
        sink,
        plan,
        knobs.ordered,
        runs,
        std::panic::Location::caller(),
    ));
    shared.set_token(token.clone());
    let shares: Result<Vec<_>, ()> = thread::scope(|s| {
        let threads: Vec<_> = (0..lanes)
            .map(|lane| Lane::new(&shared, lane))
            .map(|lane| s.spawn(move || block_on(lane)))
            .collect();
        threads
            .into_iter()
            .map(|t| t.join().map_err(drop))
            .collect()
    });
    shares.map(|shares| shared.sink.finish(shares))
}

fn knobs(concurrency: usize, ordered: bool) -> Knobs {
    Knobs {
        concurrency: Some(concurrency),
        ordered,
        ..Knobs::default()
    }
}

async fn pause(times: u32) {
    let mut left = times;
    std::future::poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A stream fed by another thread through a channel that is mostly empty.
fn fed(items: u32) -> (thread::JoinHandle<()>, impl Stream<Item = u32> + Send) {
    let (mut tx, rx) = mpsc::channel(0);
    let feed = thread::spawn(move || {
        for n in 0..items {
            if block_on(tx.send(n)).is_err() {
                break;
            }
        }
    });
    (feed, rx)
}

const ROUNDS: usize = 30;

#[test]
fn starved_source_wakes_lanes_one_after_another() {
    for round in 0..ROUNDS {
        for width in [1, 2, 5] {
            let (feed, stream) = fed(200);
            let pipe = Then::new(FromStream::new(stream), async |n| {
                pause(n % 3).await;
                n
            });
            let all: Vec<u32> = on_threads(pipe, Collect::new(), &knobs(width, true)).unwrap();
            assert_eq!(
                all,
                (0..200).collect::<Vec<_>>(),
                "round {round}, width {width}"
            );
            feed.join().unwrap();
        }
    }
}

#[test]
fn ordered_reduction_joins_neighbours_whoever_finished_them() {
    for _ in 0..ROUNDS {
        let push = |mut all: Vec<u32>, n| {
            all.push(n);
            all
        };
        let join = |mut a: Vec<u32>, b: Vec<u32>| {
            a.extend(b);
            a
        };
        let pipe = Fold::new(FromRange::open(0..2000u32), Vec::new, push);
        let sink = Reduce::new(WithIdentity(Vec::new, join), true);
        let all = on_threads(pipe, sink, &Knobs::default()).unwrap();
        assert_eq!(all, (0..2000).collect::<Vec<_>>());
    }
}

/// Items 0 to 23 of three lanes, which fall into the runs 0..4, 4..7, 7..9, 9..11, 11..13 and so on. Item 1 fails when
/// 4..7 and 9..11 are finished, and stops the run 7..9 in its middle.
struct Stopped {
    token: CancelToken,
    /// Cancelled when the runs around 7..9 are finished.
    far: CancelToken,
}

impl Stopped {
    fn new() -> Self {
        Self {
            token: CancelToken::new(),
            far: CancelToken::new(),
        }
    }

    fn item(&self, n: u32) -> Result<(u32, u32), String> {
        let wait = |over: &dyn Fn() -> bool| {
            while !over() {
                thread::yield_now();
            }
        };
        match n {
            1 => {
                wait(&|| self.far.is_cancelled());
                return Err("item 1".into());
            }
            7 => wait(&|| self.token.is_cancelled()),
            11 => self.far.cancel(),
            _ => {}
        }
        Ok((n, n + 1))
    }

    fn join(a: (u32, u32), b: (u32, u32)) -> Result<(u32, u32), String> {
        assert_eq!(a.1, b.0, "only neighbours");
        Ok((a.0, b.1))
    }

    fn run<P: Pipe<Item = Result<(u32, u32), String>>>(&self, pipe: P) {
        let sink = Reduce::new(Fallible(|| (0, 0), Self::join), true);
        let knobs = Knobs {
            batch: Some(4),
            ..Knobs::default()
        };
        let out = under_token(pipe, sink, &knobs, &self.token);
        assert_eq!(out, Ok(Err("item 1".into())));
        assert!(self.far.is_cancelled());
    }
}

#[test]
fn nothing_is_joined_over_a_run_that_a_failure_has_stopped() {
    guarded(|| {
        let stopped = &Stopped::new();
        stopped.run(Map::new(FromRange::open(0..24), |n| stopped.item(n)));
    });
}

#[test]
fn nothing_is_joined_over_an_accumulator_that_a_failure_has_stopped() {
    guarded(|| {
        let stopped = &Stopped::new();
        let push = |all: Option<(u32, u32)>, n| {
            let one = stopped.item(n)?;
            Ok(Some(match all {
                Some(all) => Stopped::join(all, one)?,
                None => one,
            }))
        };
        let folded = TryFold::new(FromRange::open(0..24), || None, push);
        let some = |all: Result<Option<_>, String>| all.map(|all| all.expect("an item"));
        stopped.run(Map::new(folded, some));
    });
}

#[test]
fn lanes_that_slept_end_with_the_others() {
    for items in [0, 1, 5, 64, 65, 300] {
        let stream = stream::iter(0..items).filter(|_| std::future::ready(true));
        let pipe = Then::new(FromStream::new(stream), async |n| {
            pause(u32::from(n % 4 == 0)).await;
            n
        });
        let all: Vec<u32> = on_threads(pipe, Collect::new(), &knobs(40, true)).unwrap();
        assert_eq!(all, (0..items).collect::<Vec<_>>());
    }
}

#[test]
fn error_ends_lanes_that_wait_for_the_source() {
    for ordered in [true, false] {
        // It gives three items and then nothing, for ever.
        let stream = stream::iter(0..3u32).chain(stream::pending());
        let pipe = Each::new(FromStream::new(stream), async |n| {
            pause(20).await;
            if n == 1 { Err(n) } else { Ok(()) }
        });
        let sink = TryForEach::new(ordered);
        assert_eq!(on_threads(pipe, sink, &knobs(8, ordered)), Ok(Err(1)));
    }
}

#[test]
fn panic_ends_lanes_that_wait_for_the_source() {
    let stream = stream::iter(0..3u32).chain(stream::pending());
    let pipe = Then::new(FromStream::new(stream), async |n| {
        pause(20).await;
        assert!(n != 2, "on purpose");
    });
    assert!(on_threads(pipe, Collect::<Vec<()>, ()>::new(), &knobs(8, true)).is_err());
}

#[test]
fn panic_of_the_stream_ends_lanes_that_queue_for_it() {
    struct Late(u32);
    impl Stream for Late {
        type Item = u32;
        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u32>> {
            self.0 += 1;
            assert!(self.0 < 50, "on purpose");
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
    let pipe = Then::new(FromStream::new(Late(0)), std::future::ready);
    assert!(on_threads(pipe, Collect::<Vec<u32>, u32>::new(), &knobs(8, true)).is_err());
}

/// Longer than a lane spins for the turn.
fn dawdle() {
    let from = std::time::Instant::now();
    while from.elapsed() < std::time::Duration::from_micros(70) {
        std::hint::spin_loop();
    }
}

#[test]
fn slow_iterator_hands_every_item_to_one_lane_however_many_rest() {
    for round in 0..ROUNDS {
        for (slow, items) in [(true, 60), (false, 3000)] {
            let iter = (0..items).inspect(|n| {
                if slow && (n + round) % 3 > 0 {
                    dawdle();
                }
            });
            let push = |mut all: Vec<usize>, n| {
                all.push(n);
                all
            };
            let pipe = Fold::new(FromIter::new(iter), Vec::new, push);
            let all: Vec<Vec<usize>> = on_threads(pipe, Collect::new(), &Knobs::default()).unwrap();
            let all = all.concat();
            assert_eq!(all, (0..items).collect::<Vec<_>>(), "round {round}");
        }
    }
}

#[test]
fn slow_stream_hands_every_item_to_one_lane_however_many_rest() {
    for round in 0..ROUNDS {
        let (mut n, mut left) = (0, 0);
        let stream = stream::poll_fn(move |cx| {
            left = if left == 0 { (n + round) % 3 } else { left - 1 };
            match left {
                2 => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                1 => dawdle(),
                _ => {}
            }
            n += 1;
            Poll::Ready((n <= 100).then_some(n))
        });
        let pipe = Then::new(FromStream::new(stream), async |n: usize| {
            pause(u32::from(n % 4 == 0)).await;
            n
        });
        let all: Vec<usize> = on_threads(pipe, Collect::new(), &knobs(5, true)).unwrap();
        assert_eq!(all, (1..=100).collect::<Vec<_>>(), "round {round}");
    }
}

#[test]
fn error_and_panic_end_lanes_that_rest_at_the_gate() {
    for round in 0..ROUNDS {
        for panics in [true, false] {
            let iter = (0..).inspect(|n| {
                dawdle();
                assert!(!panics || *n < 10, "on purpose");
            });
            let pipe = Each::new(
                FromIter::new(iter),
                |n| if n < 10 { Ok(()) } else { Err(n) },
            );
            let out = on_threads(pipe, TryForEach::new(true), &Knobs::default());
            let expected = if panics { Err(()) } else { Ok(Err(10)) };
            assert_eq!(out, expected, "round {round}");
        }
    }
}
