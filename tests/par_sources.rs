//! Every way into a parallel stream, at its edges: empty, one item, the ends of integer types,
//! borrowed and exclusive items, and items that are never taken.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
use std::sync::Arc;

use futures::stream;
use selvedge::{IntoPar, ParStream, Pipe, block_on, par_iter, prelude::*};

fn all<P: Pipe<Item: Ord>>(stream: ParStream<P>) -> Vec<P::Item> {
    let mut all: Vec<P::Item> = block_on(stream.collect());
    all.sort_unstable();
    all
}

#[test]
fn integer_ranges_reach_the_ends_of_their_types() {
    assert_eq!(
        all((250..=u8::MAX).into_par()),
        [250, 251, 252, 253, 254, 255]
    );
    assert_eq!(all((0..=u8::MAX).into_par()).len(), 256);
    assert_eq!(
        all((i8::MIN..=i8::MAX).into_par()),
        (i8::MIN..=i8::MAX).collect::<Vec<_>>()
    );
    assert_eq!(all((-3..3i64).into_par()), [-3, -2, -1, 0, 1, 2]);
    assert_eq!(
        all((i64::MAX - 1..=i64::MAX).into_par()),
        [i64::MAX - 1, i64::MAX]
    );
    assert_eq!(
        all((i64::MIN..i64::MIN + 2).into_par()),
        [i64::MIN, i64::MIN + 1]
    );
    assert_eq!(
        all((u64::MAX - 2..u64::MAX).into_par()),
        [u64::MAX - 2, u64::MAX - 1]
    );
    assert_eq!(all((u64::MAX..=u64::MAX).into_par()), [u64::MAX]);
    assert_eq!(all((isize::MIN..isize::MIN + 1).into_par()), [isize::MIN]);
}

#[test]
#[allow(clippy::reversed_empty_ranges, reason = "the subject of the test")]
fn empty_ranges_have_no_items() {
    assert!(all((5..5u16).into_par()).is_empty());
    assert!(all((5..3i32).into_par()).is_empty());
    assert!(all((5..=3usize).into_par()).is_empty());
    let mut spent = 7..=7u8;
    assert_eq!(spent.next(), Some(7));
    assert!(all(spent.into_par()).is_empty());
}

#[test]
fn first_error_of_an_endless_range_ends_it() {
    let end = |n: u64| if n == 5000 { Err(n) } else { Ok(()) };
    assert_eq!(
        block_on((0..=u64::MAX).into_par().try_for_each(end)),
        Err(5000)
    );
    assert_eq!(block_on(par_iter(0u64..).try_for_each(end)), Err(5000));
}

#[test]
fn every_collection_hands_over_its_items() {
    fn check<C: FromIterator<u32> + IntoPar<Pipe: Pipe<Item = u32>>>() {
        for n in [0, 1, 2, 100] {
            let made: C = (0..n).collect();
            assert_eq!(all(made.into_par()), (0..n).collect::<Vec<_>>());
        }
    }
    check::<Vec<u32>>();
    check::<VecDeque<u32>>();
    check::<LinkedList<u32>>();
    check::<BinaryHeap<u32>>();
    check::<BTreeSet<u32>>();
    check::<HashSet<u32>>();
    assert_eq!(all([3, 1, 2].into_par()), [1, 2, 3]);
    assert_eq!(all([0u8; 0].into_par()), [0u8; 0]);
    assert_eq!(all(Some(4).into_par()), [4]);
    assert_eq!(all(None::<u8>.into_par()), [0u8; 0]);
    assert_eq!(all(stream::iter(0..3).par()), [0, 1, 2]);
    assert_eq!(all(stream::empty::<u8>().par()), [0u8; 0]);
}

#[test]
fn borrowed_collections_keep_their_items() {
    let mut tree: BTreeMap<u8, String> = (0..50).map(|n| (n, n.to_string())).collect();
    assert_eq!(
        block_on((&tree).into_par().filter(|(_, v)| v.len() == 1).count()),
        10
    );
    block_on((&mut tree).into_par().for_each(|(_, v)| v.push('!')));
    assert!(tree.values().all(|v| v.ends_with('!')));
    let mut hash: HashMap<u8, u32> = (0..50).map(|n| (n, 1)).collect();
    block_on(
        (&mut hash)
            .into_par()
            .for_each(|(k, v)| *v += u32::from(*k)),
    );
    assert_eq!(
        block_on((&hash).into_par().map(|(_, v)| *v).sum::<u32>()),
        50 * 49 / 2 + 50
    );
    let queue: VecDeque<u8> = (0..9).collect();
    assert_eq!(block_on((&queue).into_par().count()), 9);
    let (some, array, vec) = (Some(1), [1, 2], vec![1, 2, 3]);
    assert_eq!(block_on((&some).into_par().count()), 1);
    assert_eq!(block_on((&array).into_par().count()), 2);
    assert_eq!(block_on((&vec).into_par().count()), 3);
    assert_eq!(block_on(vec[1..].into_par().count()), 2);
    assert_eq!(all(vec.par()), [&1, &2, &3]);
}

#[test]
fn exclusive_slices_give_each_item_once() {
    let mut items: Vec<u32> = (0..10_000).collect();
    block_on(items.par_mut().for_each(|n| *n += 1));
    block_on((&mut items).into_par().for_each(async |n| *n += 1));
    block_on(items[..].into_par().for_each(|_: &u32| ()));
    assert!(items.iter().zip(2..).all(|(a, b)| *a == b));
    let mut nothing: [u8; 0] = [];
    block_on(nothing.par_mut().for_each(|n| *n = 1));
}

#[test]
fn streams_of_borrowed_items_work() {
    let words = ["a".to_string(), "bb".to_string()];
    let borrowed: Vec<&str> = block_on(stream::iter(&words).par().map(|w| w.as_str()).collect());
    assert_eq!(borrowed, ["a", "bb"]);
}

#[test]
fn items_never_taken_are_dropped_with_the_source() {
    let item = Arc::new(());
    for taken in [0, 1, 7] {
        let items = vec![item.clone(); 20];
        let count = std::sync::atomic::AtomicUsize::new(0);
        let run = items.into_par().concurrency(1).try_for_each(|_| {
            match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                n if n == taken => Err(n),
                _ => Ok(()),
            }
        });
        assert_eq!(block_on(run), Err(taken));
        assert_eq!(count.into_inner(), taken + 1);
        assert_eq!(Arc::strong_count(&item), 1);
        // Never started at all.
        drop(vec![item.clone(); 20].into_par().map(|x| x).count());
        assert_eq!(Arc::strong_count(&item), 1);
    }
}
