//! What happens when items fail or panic, and when the pipeline is dropped or forgotten at any
//! point: everything begun is awaited, and every item is dropped exactly once.

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};

use futures::stream::{self, Stream};
use selvedge::{Pool, block_on, cancel, par_iter, prelude::*};

/// An item that counts its own drops, and would count a second one too.
#[derive(Debug)]
struct Token<'a> {
    id: usize,
    drops: &'a [AtomicUsize],
}

impl Drop for Token<'_> {
    fn drop(&mut self) {
        self.drops[self.id].fetch_add(1, SeqCst);
    }
}

struct Drops(Vec<AtomicUsize>);

impl Drops {
    fn new(n: usize) -> Self {
        Self((0..n).map(|_| AtomicUsize::new(0)).collect())
    }

    fn items(&self) -> Vec<Token<'_>> {
        (0..self.0.len())
            .map(|id| Token { id, drops: &self.0 })
            .collect()
    }

    fn each_once(self, what: &str) {
        for (id, drops) in self.0.into_iter().enumerate() {
            assert_eq!(drops.into_inner(), 1, "{what}: item {id}");
        }
    }
}

fn yields(mut times: usize) -> impl Future<Output = ()> + Send {
    std::future::poll_fn(move |cx| {
        if times == 0 {
            return Poll::Ready(());
        }
        times -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

fn payload(result: Result<impl Sized, Box<dyn std::any::Any + Send>>) -> String {
    let payload = result.err().expect("it panics");
    payload
        .downcast_ref::<String>()
        .cloned()
        .unwrap_or_else(|| {
            (*payload.downcast_ref::<&str>().expect("the payload is ours")).to_string()
        })
}

fn quietly<R>(run: impl FnOnce() -> R) -> Result<R, Box<dyn std::any::Any + Send>> {
    catch_unwind(AssertUnwindSafe(run))
}

const ITEMS: usize = 60;

#[test]
fn panic_in_a_stage_resumes_and_drops_each_item_once() {
    for bad in [0, 1, 30, 59] {
        for threads in [0, 2] {
            let pool = Pool::builder().threads(threads).build();
            let begun = AtomicUsize::new(0);
            let drops = Drops::new(ITEMS);
            let run = drops.items().into_par().on(&pool).map(|t| {
                begun.fetch_add(1, SeqCst);
                assert!(t.id != bad, "item {bad}");
                t
            });
            let out = quietly(|| block_on(run.collect::<Vec<_>>()));
            assert_eq!(payload(out), format!("item {bad}"));
            assert!(begun.into_inner() > 0);
            drops.each_once("synchronous");

            let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let drops = Drops::new(ITEMS);
            let run = drops.items().into_par().on(&pool).then(async |t| {
                begun.fetch_add(1, SeqCst);
                yields(t.id % 4).await;
                if t.id == bad {
                    ended.fetch_add(1, SeqCst);
                    panic!("item {bad}");
                }
                yields(t.id % 3).await;
                ended.fetch_add(1, SeqCst);
                t
            });
            let out = quietly(|| block_on(run.unordered().collect::<Vec<_>>()));
            assert_eq!(payload(out), format!("item {bad}"));
            assert_eq!(
                begun.into_inner(),
                ended.into_inner(),
                "everything begun is awaited"
            );
            drops.each_once("asynchronous");
        }
    }
}

#[test]
fn panics_of_sources_folds_joins_and_destructors_resume() {
    let out = quietly(|| {
        block_on(par_iter((0..9).map(|n| if n == 5 { panic!("source") } else { n })).count())
    });
    assert_eq!(payload(out), "source");
    let out = quietly(|| {
        let stream = stream::iter(0..9).par();
        let source = stream.map(|n| n).count();
        block_on(source)
    });
    assert_eq!(out.ok(), Some(9));

    struct Bad;
    impl Stream for Bad {
        type Item = u8;
        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u8>> {
            panic!("stream")
        }
    }
    assert_eq!(payload(quietly(|| block_on(Bad.par().count()))), "stream");
    assert_eq!(
        payload(quietly(|| block_on(Bad.par().for_each(async |_| ())))),
        "stream"
    );

    let out = quietly(|| {
        block_on(
            (0..9)
                .into_par()
                .fold(|| panic!("init"), |(), _| ())
                .reduce(|| (), |(), ()| ()),
        )
    });
    assert_eq!(payload(out), "init");
    let out = quietly(|| {
        block_on(
            (0..9u8)
                .into_par()
                .batch(1)
                .reduce(|| 0, |_, _| panic!("join")),
        )
    });
    assert_eq!(payload(out), "join");

    struct Grim(u8);
    impl Drop for Grim {
        fn drop(&mut self) {
            assert!(self.0 != 3, "destructor");
        }
    }
    assert_eq!(
        payload(quietly(|| block_on((0..9).into_par().map(Grim).count()))),
        "destructor"
    );
}

#[test]
fn error_asks_the_others_to_stop_and_awaits_them() {
    let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let run = (0..8).into_par().concurrency(8).try_for_each(async |n| {
        if n == 3 {
            // Who has not begun by then is not asked, and never begins.
            while begun.load(SeqCst) < 7 {
                yields(1).await;
            }
            return Err("first");
        }
        begun.fetch_add(1, SeqCst);
        // Ends only because it is asked to.
        let cause = cancel::cancelled().await;
        assert_eq!(cause.kind(), selvedge::CauseKind::SiblingFailed);
        yields(3).await;
        ended.fetch_add(1, SeqCst);
        Ok(())
    });
    assert_eq!(block_on(run), Err("first"));
    assert_eq!(ended.into_inner(), 7);
    assert!(!cancel::current().is_cancelled());
}

#[test]
fn first_error_in_source_order_wins_though_a_later_one_came_first() {
    for threads in [0, 2] {
        let pool = Pool::builder().threads(threads).build();
        let run = || {
            (0..64usize)
                .into_par()
                .on(&pool)
                .concurrency(64)
                .then(async |n| {
                    yields(64 - n).await;
                    if n % 10 == 7 { Err(n) } else { Ok(n) }
                })
        };
        assert_eq!(block_on(run().try_collect::<_, _, Vec<_>>()), Err(7));
        let late = block_on(run().unordered().try_collect::<_, _, Vec<_>>()).unwrap_err();
        assert_eq!(late % 10, 7);
    }
}

#[test]
fn error_drops_each_item_once() {
    for bad in 0..ITEMS {
        let drops = Drops::new(ITEMS);
        let run = drops
            .items()
            .into_par()
            .map(|t| if t.id == bad { Err(t) } else { Ok(t) });
        let all: Result<Vec<_>, _> = block_on(run.try_collect());
        assert_eq!(all.err().map(|t| t.id), Some(bad));
        drops.each_once("try_collect");
    }
}

/// Polls a pipeline over items that suspend, `polls` times, and reports whether it ended.
fn poll_some<'a>(
    drops: &'a Drops,
    polls: usize,
    then: impl FnOnce(Pin<Box<dyn Future<Output = usize> + Send + 'a>>),
) -> bool {
    let run = stream::iter(drops.items())
        .par()
        .concurrency(5)
        .then(async |t| {
            yields(t.id % 5).await;
            t
        });
    let mut run: Pin<Box<dyn Future<Output = usize> + Send + 'a>> = Box::pin(run.count());
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..polls {
        if let Poll::Ready(n) = run.as_mut().poll(&mut cx) {
            assert_eq!(n, ITEMS);
            return true;
        }
    }
    then(run);
    false
}

#[test]
fn dropped_or_forgotten_at_any_poll_it_leaves_nothing_behind() {
    let mut polls = 0;
    loop {
        let drops = Drops::new(ITEMS);
        let ended = poll_some(&drops, polls, drop);
        drops.each_once("dropped midway");
        let drops = Drops::new(ITEMS);
        poll_some(&drops, polls, std::mem::forget);
        for drops in drops.0 {
            assert!(drops.into_inner() <= 1);
        }
        if ended {
            break;
        }
        polls += 1;
    }
    assert!(polls >= 1, "it was dropped at least before its first poll");
}

#[test]
fn pipelines_nest_in_stages() {
    let table: Vec<u32> = block_on(
        (1..=20u32)
            .into_par()
            .then(async |n| (0..n).into_par().map(|k| k * n).sum::<u32>().await)
            .collect(),
    );
    let want: Vec<u32> = (1..=20).map(|n| (0..n).map(|k| k * n).sum()).collect();
    assert_eq!(table, want);
    let sums: u64 = block_on(
        (0..50u64)
            .into_par()
            .map(|n| block_on((0..n).into_par().sum::<u64>()))
            .sum(),
    );
    assert_eq!(sums, (0..50u64).map(|n| (0..n).sum::<u64>()).sum());
}

#[test]
fn future_is_send_and_borrows() {
    fn send<F: Future + Send>(f: F) -> F {
        f
    }
    let text = String::from("warp weft");
    let (words, seen) = (text.split(' '), AtomicUsize::new(0));
    let n = block_on(send(async {
        par_iter(words)
            .then(async |w| {
                seen.fetch_add(w.len(), SeqCst);
                w.len()
            })
            .sum::<usize>()
            .await
    }));
    assert_eq!((n, seen.into_inner()), (8, 8));
    // Outputs need not be `Send`: they are made by whoever polls.
    #[derive(Default)]
    struct Local(Cell<u32>);
    impl Extend<u32> for Local {
        fn extend<I: IntoIterator<Item = u32>>(&mut self, items: I) {
            self.0.set(self.0.get() + items.into_iter().sum::<u32>());
        }
    }
    assert_eq!(
        block_on((0..10u32).into_par().collect::<Local>()).0.get(),
        45
    );
}

#[test]
fn wakes_from_other_threads_reach_suspended_items() {
    let (tx, rx) = std::sync::mpsc::channel::<(u32, futures::channel::oneshot::Sender<u32>)>();
    let answers = std::thread::spawn(move || {
        for (n, reply) in rx {
            reply.send(n + 1).unwrap();
        }
    });
    let tx = std::sync::Mutex::new(tx);
    let asks = AtomicUsize::new(0);
    let out: Vec<u32> = block_on(
        stream::iter(0..2000)
            .par()
            .then(async |n| {
                let (reply, answer) = futures::channel::oneshot::channel();
                tx.lock().unwrap().send((n, reply)).unwrap();
                asks.fetch_add(1, SeqCst);
                answer.await.unwrap()
            })
            .collect(),
    );
    drop(tx);
    answers.join().unwrap();
    assert_eq!(asks.into_inner(), 2000);
    assert_eq!(out, (1..=2000).collect::<Vec<_>>());
}

#[test]
fn stream_fed_by_another_thread_loses_no_wake() {
    for concurrency in [1, 2, 64] {
        let (mut tx, rx) = futures::channel::mpsc::channel::<u32>(1);
        let feed = std::thread::spawn(move || {
            for n in 0..3000 {
                block_on(futures::SinkExt::send(&mut tx, n)).unwrap();
            }
        });
        let seen = Arc::new(AtomicUsize::new(0));
        let run = pin!(
            rx.par()
                .concurrency(concurrency)
                .then(async |n| {
                    seen.fetch_add(1, SeqCst);
                    n
                })
                .collect::<Vec<_>>()
        );
        assert_eq!(block_on(run), (0..3000).collect::<Vec<_>>());
        feed.join().unwrap();
        assert_eq!(seen.load(SeqCst), 3000);
    }
}
