//! Every stage, terminal and knob, called the ways users call them: with synchronous closures,
//! asynchronous ones and closures that return a block, over every kind of source. Half the test
//! is that the compiler infers all of it. Edges and failures are in the façade's `par_*` tests.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use futures::stream;
use selvedge_iter::{IntoPar, ParMutExt, ParRefExt, ParStreamExt, par_iter};
use selvedge_scope::{Pool, block_on, scope};

async fn fetch(id: u32) -> u32 {
    tokio::task::yield_now().await;
    id * 10
}

async fn save(id: u32, seen: &AtomicUsize) -> io::Result<()> {
    tokio::task::yield_now().await;
    seen.fetch_add(1, SeqCst);
    if id == 13 {
        return Err(io::Error::other("thirteen"));
    }
    Ok(())
}

#[test]
fn for_each_takes_every_kind_of_closure() {
    let seen = AtomicUsize::new(0);
    let hit = || {
        seen.fetch_add(1, SeqCst);
    };
    block_on(async {
        (0..5).into_par().for_each(|_| hit()).await;
        (0..5).into_par().for_each(async |_| hit()).await;
        (0..5).into_par().for_each(|_| async { hit() }).await;
        (0..5)
            .into_par()
            .for_each(|n| async move {
                fetch(n).await;
            })
            .await;
        let each = |_: u32| hit();
        (0..5).into_par().for_each(each).await;
        [(), ()].into_par().for_each(std::future::ready).await;
        // Closures that never return.
        (0..0).into_par().for_each(|_| panic!()).await;
        (0..0).into_par().for_each(async |_| panic!()).await;
    });
    assert_eq!(seen.into_inner(), 20);
}

#[test]
fn try_for_each_takes_every_kind_of_closure() {
    let seen = &AtomicUsize::new(0);
    let odd = |n: u32| if n % 2 == 1 { Err(n) } else { Ok(()) };
    block_on(async {
        assert_eq!((0..5).into_par().try_for_each(odd).await, Err(1));
        let next = (0..5)
            .into_par()
            .try_for_each(|n| odd(n).map_err(|n| n + 1));
        assert_eq!(next.await, Err(2));
        assert_eq!(
            (0..5).into_par().try_for_each(async |n| odd(n)).await,
            Err(1)
        );
        let moved = (0..5).into_par().try_for_each(|n| async move { odd(n) });
        assert_eq!(moved.await, Err(1));
        let saved = (0..9).into_par().try_for_each(|n| save(n, seen)).await;
        assert!(saved.is_ok());
        let saved = (0..20).into_par().try_for_each(async |n| {
            save(n, seen).await?;
            Ok::<_, io::Error>(())
        });
        assert_eq!(saved.await.unwrap_err().to_string(), "thirteen");
    });
    assert!(seen.load(SeqCst) >= 10);
}

#[test]
fn stages_take_every_kind_of_closure() {
    let by = 3;
    block_on(async {
        let all: Vec<u32> = (0..4).into_par().map(|n| n * by).collect().await;
        assert_eq!(all, [0, 3, 6, 9]);
        let all: Vec<u32> = (0..4).into_par().then(fetch).collect().await;
        assert_eq!(all, [0, 10, 20, 30]);
        let all: Vec<u32> = (0..4)
            .into_par()
            .then(async |n| fetch(n).await + by)
            .collect()
            .await;
        assert_eq!(all, [3, 13, 23, 33]);
        let all: Vec<u32> = (0..4)
            .into_par()
            .then(|n| async move { fetch(n).await + by })
            .collect()
            .await;
        assert_eq!(all, [3, 13, 23, 33]);
        assert_eq!((0..9).into_par().filter(|n| n % by == 0).count().await, 3);
        let kept = (0..9u32)
            .into_par()
            .then_filter(|&n| async move { fetch(n).await > 50 });
        assert_eq!(kept.count().await, 3);
        let some = (0..9u32).into_par().filter_map(|n| n.checked_sub(by));
        assert_eq!(some.sum::<u32>().await, 15);
        let looked = AtomicUsize::new(0);
        let look = (0..9).into_par().inspect(|_| {
            looked.fetch_add(1, SeqCst);
        });
        assert_eq!(look.count().await, 9);
        assert_eq!(looked.into_inner(), 9);
        let mixed = (0..100u32)
            .into_par()
            .map(|n| n + 1)
            .filter(|n| n % 2 == 0)
            .then(fetch)
            .map(|n| n / 10)
            .then(async |n| n + by);
        assert_eq!(mixed.sum::<u32>().await, 2550 + 150);
    });
}

#[test]
fn terminals_infer_their_results() {
    block_on(async {
        let text = ('a'..='e').collect::<Vec<_>>().into_par();
        let text = text.fold(String::new, |mut text, c| {
            text.push(c);
            text
        });
        assert_eq!(text.reduce(String::new, |a, b| a + &b).await, "abcde");
        let words = ["a", "b", "a"].into_par().unordered();
        let counts = words.fold(HashMap::new, |mut counts, word| {
            *counts.entry(word).or_insert(0) += 1;
            counts
        });
        let counts = counts.reduce(HashMap::new, |mut a, b| {
            for (word, n) in b {
                *a.entry(word).or_insert(0) += n;
            }
            a
        });
        assert_eq!(counts.await, HashMap::from([("a", 2), ("b", 1)]));
        assert_eq!((1..=4).into_par().reduce_with(|a, b| a * b).await, Some(24));
        assert_eq!([1.5, 2.5].into_par().sum::<f64>().await, 4.0);
        assert_eq!([1, 2].par().sum::<i32>().await, 3);
        let total: u64 = (0..10u64).into_par().sum().await;
        assert_eq!(total, 45);
        let parse = |s: &str| s.parse::<u8>();
        let all: Result<Vec<u8>, _> = ["1", "2"].into_par().map(parse).try_collect().await;
        assert_eq!(all, Ok(vec![1, 2]));
        let set: BTreeSet<_> = ["b", "a"].into_par().collect().await;
        assert!(set.into_iter().eq(["a", "b"]));
        let map: BTreeMap<_, _> = ["x", "yy"].into_par().map(|s| (s, s.len())).collect().await;
        assert_eq!(map["yy"], 2);
        let text: String = ["warp", "weft"].into_par().collect().await;
        assert_eq!(text, "warpweft");
        let add = |a: u8, b: u8| a.checked_add(b).ok_or("too much");
        let sum = [200, 100]
            .into_par()
            .try_fold(|| 0, add)
            .try_reduce(|| 0, add);
        assert_eq!(sum.await, Err("too much"));
    });
}

/// `?` takes the error type from the function, with no turbofish.
async fn sizes(names: &[&str]) -> Result<Vec<usize>, Box<dyn std::error::Error + Send + Sync>> {
    names
        .par()
        .try_for_each(async |name| {
            name.parse::<f64>()?;
            Ok::<_, std::num::ParseFloatError>(())
        })
        .await?;
    let sizes: Vec<usize> = names
        .par()
        .map(|name| name.parse::<usize>())
        .try_collect()
        .await?;
    Ok(sizes)
}

#[test]
fn errors_pass_by_question_mark() {
    assert_eq!(block_on(sizes(&["3", "4"])).unwrap(), [3, 4]);
    let first = block_on(sizes(&["3.5", "x"])).unwrap_err();
    assert_eq!(first.to_string(), "invalid float literal");
    let second = block_on(sizes(&["3.5", "4"])).unwrap_err();
    assert_eq!(second.to_string(), "invalid digit found in string");
}

#[test]
fn every_source_goes_through_every_kind_of_stage() {
    macro_rules! through {
        ($($source:expr => $item:pat => $value:expr;)*) => { $(
            let kinds = async {
                let now = $source.map(|$item| $value).sum::<u32>().await;
                let later = $source.then(async |$item| $value).sum::<u32>().await;
                let moved = $source.then(|$item| async move { $value }).sum::<u32>().await;
                let seen = AtomicUsize::new(0);
                $source.for_each(|$item| { seen.fetch_add($value as usize, SeqCst); }).await;
                $source.for_each(async |$item| { seen.fetch_add($value as usize, SeqCst); }).await;
                let fine = $source.try_for_each(|$item| if $value > 9 { Err(()) } else { Ok(()) });
                (now, later, moved, seen.into_inner(), fine.await)
            };
            assert_eq!(block_on(kinds), (6, 6, 6, 12, Ok(())), stringify!($source));
        )* };
    }
    let (array, vec) = ([1, 2, 3u32], vec![1, 2, 3u32]);
    let (mut fresh, mut slots) = (vec![1, 2, 3u32], [1, 2, 3u32]);
    let deque = VecDeque::from(array);
    through! {
        (1..4u32).into_par() => n => n;
        (1..=3u32).into_par() => n => n;
        vec![1, 2, 3u32].into_par() => n => n;
        array.into_par() => n => n;
        (&array).into_par() => &n => n;
        array.par() => &n => n;
        array[..].par() => &n => n;
        (&vec).into_par() => &n => n;
        vec.par() => &n => n;
        vec.as_slice().into_par() => &n => n;
        (&deque).into_par() => &n => n;
        fresh.par_mut() => n => *n;
        (&mut fresh).into_par() => n => *n;
        slots.par_mut() => n => *n;
        par_iter(1..4u32) => n => n;
        par_iter(&vec) => &n => n;
        stream::iter(1..4u32).par() => n => n;
        stream::iter(&vec).par() => &n => n;
    }
}

#[test]
fn knobs_go_anywhere_in_the_chain() {
    let pool = Pool::builder().threads(1).build();
    block_on(async {
        let all: Vec<u32> = (0..100)
            .into_par()
            .on(&pool)
            .named("squares")
            .concurrency(7)
            .batch(3)
            .unordered()
            .map(|n| n * n)
            .ordered()
            .named(format!("squares of {}", 100))
            .collect()
            .await;
        assert!(all.into_iter().eq((0..100).map(|n| n * n)));
        // Whether results are ordered is no part of the type.
        for ordered in [true, false] {
            let items = (0..50u32).into_par().then(fetch);
            let items = if ordered {
                items.ordered()
            } else {
                items.unordered()
            };
            assert_eq!(items.concurrency(4).on(&pool).sum::<u32>().await, 12_250);
        }
    });
}

/// What a library would write: a pipeline inside an async method that borrows.
struct Index {
    names: Vec<String>,
}

impl Index {
    async fn total(&self, extra: &[usize]) -> usize {
        let names = self.names.par().then(async |name| name.len() + extra.len());
        names.sum().await
    }

    async fn grow(&mut self) {
        self.names.par_mut().for_each(|name| name.push('!')).await;
    }
}

#[test]
fn pipelines_run_inside_tokio_tasks() {
    let program = || async {
        let one = tokio::spawn(async {
            let mut index = Index {
                names: vec!["warp".into(), "weft".into()],
            };
            index.grow().await;
            index.total(&[1, 2]).await
        });
        let two = tokio::spawn(async {
            let limit = tokio::sync::Semaphore::new(2);
            let inside = AtomicUsize::new(0);
            let (limit, inside) = (&limit, &inside);
            let run = stream::iter(0..50u32)
                .par()
                .concurrency(10)
                .then(|n| async move {
                    let permit = limit.acquire().await.expect("it is never closed");
                    assert!(inside.fetch_add(1, SeqCst) < 2);
                    let n = fetch(n).await;
                    // A timer of the runtime, created on whatever thread polls the item.
                    tokio::time::sleep(std::time::Duration::from_micros(1)).await;
                    inside.fetch_sub(1, SeqCst);
                    drop(permit);
                    n
                });
            run.sum::<u32>().await
        });
        let three = tokio::spawn(async {
            let words = ["warp".to_string(), "weft".to_string()];
            let words = &words;
            scope(async |s| {
                let all = s.spawn(async { words.par().map(|w| w.len()).sum::<usize>().await });
                let each = s.spawn_with(async |s| {
                    // A pipeline in a child, children in its items.
                    let s = &s;
                    let run = words
                        .par()
                        .then(|w| async move { s.spawn(async move { w.len() }).await });
                    run.sum::<usize>().await
                });
                all.await + each.await
            })
            .await
        });
        (one.await.unwrap(), two.await.unwrap(), three.await.unwrap())
    };
    for mut runtime in [
        tokio::runtime::Builder::new_current_thread(),
        tokio::runtime::Builder::new_multi_thread(),
    ] {
        let runtime = runtime.enable_time().build().expect("a runtime");
        assert_eq!(runtime.block_on(program()), (14, 12_250, 16));
    }
}
