//! Random pipelines against `Iterator`: every source, chain, knob and terminal gives what the
//! sequential program gives. Limits, errors in time and panics have files of their own.

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::Stream;
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use selvedge::{ParStream, Pipe, block_on, par_iter, prelude::*};

/// Suspends so many times, waking itself.
fn pause(mut times: u32) -> impl Future<Output = ()> + Send {
    std::future::poll_fn(move |cx| {
        if times == 0 {
            return Poll::Ready(());
        }
        times -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

/// A stream that has nothing before every so-manyth item.
struct Stutter {
    items: VecDeque<u32>,
    every: u32,
    count: u32,
}

impl Stream for Stutter {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u32>> {
        self.count += 1;
        if self.count % self.every == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.items.pop_front())
    }
}

#[derive(Debug, Clone)]
struct Case {
    concurrency: Option<usize>,
    batch: Option<usize>,
    unordered: bool,
    chain: u8,
    pauses: u32,
    modulus: u32,
}

fn case() -> impl Strategy<Value = Case> {
    let knob = || prop_oneof![Just(None), (0..70usize).prop_map(Some)];
    (knob(), knob(), any::<bool>(), 0..6u8, 0..4u32, 1..6u32).prop_map(
        |(concurrency, batch, unordered, chain, pauses, modulus)| Case {
            concurrency,
            batch,
            unordered,
            chain,
            pauses,
            modulus,
        },
    )
}

impl Case {
    fn knobs<P: Pipe>(&self, mut stream: ParStream<P>) -> ParStream<P> {
        if let Some(n) = self.concurrency {
            stream = stream.concurrency(n);
        }
        if let Some(n) = self.batch {
            stream = stream.batch(n);
        }
        if self.unordered {
            stream.unordered()
        } else {
            stream
        }
    }

    /// Runs the pipeline with each terminal. `make` gives a fresh source each time.
    fn check<P: Pipe<Item = u32>>(&self, items: &[u32], make: impl Fn() -> ParStream<P>) {
        let (m, pauses) = (self.modulus, self.pauses);
        let keep = |x: &u32| x % m != 1;
        let change = |x: u32| x.wrapping_mul(7).wrapping_add(3);
        let pick = |x: u32| (x % m != 0).then_some(x / 2);
        let s = || self.knobs(make());
        let all = items.iter().copied();
        // Each chain has a type of its own, and so has each of its futures.
        match self.chain {
            0 => self.terminals(all.collect(), s),
            1 => self.terminals(all.filter(keep).map(change).collect(), || {
                s().filter(keep).map(change).inspect(|_| ())
            }),
            2 => self.terminals(all.map(change).filter_map(pick).collect(), || {
                s().map(change).filter_map(pick)
            }),
            3 => self.terminals(all.map(change).collect(), || {
                s().then(async |x| {
                    pause(x % (pauses + 1)).await;
                    change(x)
                })
            }),
            4 => self.terminals(all.filter(keep).map(change).filter(keep).collect(), || {
                s().then_filter(|&x| async move {
                    pause(x % (pauses + 1)).await;
                    keep(&x)
                })
                .map(change)
                .then_filter(|x| std::future::ready(keep(x)))
            }),
            _ => self.terminals(all.map(change).map(change).filter(keep).collect(), || {
                s().then(async |x| {
                    pause(pauses).await;
                    change(x)
                })
                .then(async |x| {
                    pause(x % (pauses + 1)).await;
                    change(x)
                })
                .filter(keep)
            }),
        }
    }

    fn terminals<P: Pipe<Item = u32>>(&self, want: Vec<u32>, s: impl Fn() -> ParStream<P>) {
        let sorted = |mut all: Vec<u32>| {
            all.sort_unstable();
            all
        };
        let same = |got: Vec<u32>| {
            if self.unordered {
                assert_eq!(sorted(got), sorted(want.clone()), "{self:?}");
            } else {
                assert_eq!(got, want, "{self:?}");
            }
        };
        let join = |mut a: Vec<u32>, b: Vec<u32>| {
            a.extend(b);
            a
        };
        let push = |mut a: Vec<u32>, x: u32| {
            a.push(x);
            a
        };
        block_on(async {
            assert_eq!(s().count().await, want.len(), "{self:?}");
            let sum: u64 = s().map(u64::from).sum().await;
            assert_eq!(
                sum,
                want.iter().copied().map(u64::from).sum::<u64>(),
                "{self:?}"
            );
            same(s().collect().await);
            same(s().fold(Vec::new, push).reduce(Vec::new, join).await);
            same(s().map(|x| vec![x]).reduce(Vec::new, join).await);
            same(
                s().map(|x| vec![x])
                    .reduce_with(join)
                    .await
                    .unwrap_or_default(),
            );
            same(
                s().fold(Vec::new, push)
                    .then(async |v| v)
                    .reduce(Vec::new, join)
                    .await,
            );
            let set: BTreeSet<u32> = s().collect().await;
            assert_eq!(set, want.iter().copied().collect(), "{self:?}");
            let seen = std::sync::Mutex::new(Vec::new());
            s().for_each(|x| seen.lock().unwrap().push(x)).await;
            assert_eq!(
                sorted(seen.into_inner().unwrap()),
                sorted(want.clone()),
                "{self:?}"
            );
            let seen = std::sync::Mutex::new(Vec::new());
            s().for_each(async |x| {
                pause(x % 2).await;
                seen.lock().unwrap().push(x);
            })
            .await;
            assert_eq!(
                sorted(seen.into_inner().unwrap()),
                sorted(want.clone()),
                "{self:?}"
            );
            self.fallible(&want, &s, &same).await;
        });
    }

    /// The fallible terminals, on items of which some are taken for errors.
    async fn fallible<P: Pipe<Item = u32>>(
        &self,
        want: &[u32],
        s: &impl Fn() -> ParStream<P>,
        same: &impl Fn(Vec<u32>),
    ) {
        let sift = |x: u32| if x % 11 == 5 { Err(x) } else { Ok(x) };
        let first = want.iter().copied().map(sift).find_map(Result::err);
        let expect = |error: Option<u32>| match (first, error) {
            (Some(_), Some(e)) if self.unordered => assert_eq!(e % 11, 5, "{self:?}"),
            _ => assert_eq!(error, first, "{self:?}"),
        };
        expect(s().try_for_each(|x| sift(x).map(drop)).await.err());
        let late = async |x| {
            pause(x % 3).await;
            sift(x).map(drop)
        };
        expect(s().try_for_each(late).await.err());
        let all: Result<Vec<u32>, u32> = s().map(sift).try_collect().await;
        expect(all.as_ref().err().copied());
        if let Ok(all) = all {
            same(all);
        }
        let push = |mut a: Vec<u32>, x: u32| {
            a.push(sift(x)?);
            Ok(a)
        };
        let join = |mut a: Vec<u32>, b: Vec<u32>| {
            a.extend(b);
            Ok(a)
        };
        let all = s()
            .try_fold(Vec::new, push)
            .try_reduce(Vec::new, join)
            .await;
        expect(all.as_ref().err().copied());
        if let Ok(all) = all {
            same(all);
        }
    }
}

/// One type for every iterator: each pipeline is compiled for few sources only. That all
/// sources hand over their items is checked in `par_sources`.
fn boxed<'a>(
    items: impl Iterator<Item = u32> + Send + 'a,
) -> Box<dyn Iterator<Item = u32> + Send + 'a> {
    Box::new(items)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn pipelines_over_iterators_agree_with_iterators(
        items in vec(any::<u32>(), 0..150), case in case(), sized in any::<bool>(),
    ) {
        case.check(&items, || {
            let items = items.iter().copied();
            if sized { par_iter(boxed(items)) } else { par_iter(boxed(items.filter(|_| true))) }
        });
    }

    #[test]
    fn pipelines_over_ranges_agree_with_iterators(
        start in 0..1000u32, len in 0..300u32, inclusive in any::<bool>(), case in case(),
    ) {
        let end = start + len;
        let items: Vec<u32> = if inclusive { (start..=end).collect() } else { (start..end).collect() };
        case.check(&items, || {
            if inclusive { (start..=end).into_par() } else { (start..end).into_par() }
        });
    }

    #[test]
    fn pipelines_over_streams_agree_with_iterators(
        items in vec(any::<u32>(), 0..100), every in 2..9u32, case in case(),
    ) {
        // At 8 the stream is always ready.
        let every = if every == 8 { u32::MAX } else { every };
        case.check(&items, || {
            Stutter { items: items.clone().into(), every, count: 0 }.par()
        });
    }
}
