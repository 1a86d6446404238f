//! What a pipeline may not exceed: items taken and unfinished under an explicit concurrency, for
//! every terminal; intake after an error; and that a width asked for is really used.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};

use futures::stream::Stream;
use selvedge::{ParStream, Pipe, Pool, block_on, par_iter, prelude::*};

/// Counts items taken from a source and items that a stage has finished.
#[derive(Default)]
struct Gauge {
    taken: AtomicUsize,
    done: AtomicUsize,
    most: AtomicUsize,
}

impl Gauge {
    fn take(&self) {
        let taken = self.taken.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(taken - self.done.load(SeqCst), SeqCst);
    }

    fn done(&self) {
        self.done.fetch_add(1, SeqCst);
    }
}

/// A stream of numbers that counts what it gives, and now and then has nothing.
struct Counted<'a> {
    gauge: &'a Gauge,
    next: u32,
    end: u32,
    stutter: bool,
}

impl Stream for Counted<'_> {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u32>> {
        if self.next == self.end {
            return Poll::Ready(None);
        }
        self.stutter = !self.stutter;
        if self.stutter && self.next % 5 == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.gauge.take();
        self.next += 1;
        Poll::Ready(Some(self.next - 1))
    }
}

fn yield_once() -> impl Future<Output = ()> + Send {
    let mut yielded = false;
    std::future::poll_fn(move |cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

const ITEMS: u32 = 400;

/// Runs each terminal over a pipeline made by `make`, whose last stage reports to the gauge.
fn every_terminal<'a, P: Pipe<Item = u32> + 'a>(
    width: usize,
    gauge: &'a Gauge,
    make: impl Fn() -> ParStream<P>,
) {
    let calm = |name: &str| {
        let (taken, done) = (gauge.taken.swap(0, SeqCst), gauge.done.swap(0, SeqCst));
        assert_eq!((taken, done), (ITEMS as usize, ITEMS as usize), "{name}");
        let most = gauge.most.swap(0, SeqCst);
        assert!(
            (1..=width).contains(&most),
            "{name}: {most} at once, {width} allowed"
        );
    };
    let odd = |x: u32| if x == u32::MAX { Err(x) } else { Ok(x) };
    block_on(async {
        make().for_each(|_| ()).await;
        calm("for_each");
        make().for_each(async |_| ()).await;
        calm("for_each, asynchronous");
        make().try_for_each(|x| odd(x).map(drop)).await.unwrap();
        calm("try_for_each");
        assert_eq!(make().count().await, ITEMS as usize);
        calm("count");
        assert_eq!(make().sum::<u32>().await, ITEMS * (ITEMS - 1) / 2);
        calm("sum");
        let mut all: Vec<u32> = make().collect().await;
        all.sort_unstable();
        assert!(all.into_iter().eq(0..ITEMS));
        calm("collect");
        assert!(
            make()
                .map(odd)
                .try_collect::<_, _, Vec<u32>>()
                .await
                .is_ok()
        );
        calm("try_collect");
        assert_eq!(make().reduce(|| 0, u32::max).await, ITEMS - 1);
        calm("reduce");
        assert_eq!(make().reduce_with(u32::max).await, Some(ITEMS - 1));
        calm("reduce_with");
        assert_eq!(
            make()
                .fold(|| 0, |a, x| a + x)
                .reduce(|| 0, |a, b| a + b)
                .await,
            79_800
        );
        calm("fold");
        let sum = make()
            .try_fold(|| 0, |a, x| Ok::<u32, ()>(a + x))
            .try_reduce(|| 0, |a, b| Ok(a + b));
        assert_eq!(sum.await, Ok(79_800));
        calm("try_fold");
    });
}

#[test]
fn explicit_concurrency_bounds_what_is_taken_and_unfinished() {
    for width in [1, 2, 3, 7, 64] {
        for batch in [None, Some(1), Some(50)] {
            for ordered in [true, false] {
                let gauge = Gauge::default();
                let base = || {
                    let stream = Counted {
                        gauge: &gauge,
                        next: 0,
                        end: ITEMS,
                        stutter: false,
                    };
                    let stream = stream.par().concurrency(width);
                    let stream = if let Some(n) = batch {
                        stream.batch(n)
                    } else {
                        stream
                    };
                    if ordered { stream } else { stream.unordered() }
                };
                every_terminal(width, &gauge, || base().inspect(|_| gauge.done()));
                every_terminal(width, &gauge, || {
                    base().then(async |x| {
                        if x % 3 != 0 {
                            yield_once().await;
                        }
                        gauge.done();
                        x
                    })
                });
            }
        }
    }
}

#[test]
fn iterators_are_not_taken_beyond_the_concurrency_either() {
    for width in [1, 4, 9] {
        let gauge = Gauge::default();
        every_terminal(width, &gauge, || {
            par_iter((0..ITEMS).inspect(|_| gauge.take()))
                .concurrency(width)
                .inspect(|_| gauge.done())
        });
    }
}

/// Ready once `all` have arrived.
struct Gate<'a> {
    here: &'a AtomicUsize,
    all: usize,
    counted: bool,
}

impl Future for Gate<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.counted {
            self.counted = true;
            self.here.fetch_add(1, SeqCst);
        }
        if self.here.load(SeqCst) >= self.all {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[test]
fn width_is_used_in_full() {
    for (width, knob) in [(64, None), (5, Some(5)), (200, Some(200)), (1, Some(1))] {
        for threads in [0, 2] {
            let here = AtomicUsize::new(0);
            let pool = Pool::builder().threads(threads).build();
            let stream = (0..width).into_par().on(&pool);
            let stream = if let Some(n) = knob {
                stream.concurrency(n)
            } else {
                stream
            };
            // Ends only if all are under way at the same time.
            let all = stream.for_each(|_| Gate {
                here: &here,
                all: width,
                counted: false,
            });
            block_on(all);
            assert_eq!(here.into_inner(), width);
        }
    }
}

#[test]
fn nothing_is_taken_after_an_error() {
    for width in [1, 2, 8] {
        let gauge = Gauge::default();
        let stream = Counted {
            gauge: &gauge,
            next: 0,
            end: ITEMS,
            stutter: false,
        };
        let run = stream
            .par()
            .concurrency(width)
            .try_for_each(|x| if x == 20 { Err(x) } else { Ok(()) });
        assert_eq!(block_on(run), Err(20));
        // The others may each have taken one batch since.
        let taken = gauge.taken.into_inner();
        assert!((21..ITEMS as usize / 2).contains(&taken), "{taken} taken");
        if width == 1 {
            assert_eq!(taken, 21);
        }
    }
}
