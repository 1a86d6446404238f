//! Every stage and terminal over borrowed items, awaited inside a task that must be `Send`: the
//! compiler decides that with lifetimes erased and refuses closures it could accept elsewhere
//! ("not general enough"), unless nothing in our futures depends on what a closure takes.

use std::future::Future;

use futures::{StreamExt, stream};
use selvedge::{block_on, par_iter, prelude::*, scope};

fn send<'a, T>(task: impl Future<Output = T> + Send + 'a) -> impl Future<Output = T> + Send + 'a {
    task
}

#[test]
fn pipelines_over_borrowed_items_are_send_in_a_task() {
    let text = String::from("warp weft selvedge");
    let words: Vec<&str> = text.split(' ').collect();
    let words = &words;
    block_on(send(async {
        assert_eq!(words.par().map(|w| w.len()).sum::<usize>().await, 16);
        assert_eq!(words.par().then(async |w| w.len()).sum::<usize>().await, 16);
        assert_eq!(
            words.par().then(|w| async move { w.len() }).count().await,
            3
        );
        assert_eq!(words.par().filter(|w| w.len() > 4).count().await, 1);
        assert_eq!(
            words
                .par()
                .filter_map(|w| w.strip_prefix('w'))
                .count()
                .await,
            2
        );
        assert_eq!(
            words
                .par()
                .inspect(|w| assert!(!w.is_empty()))
                .count()
                .await,
            3
        );
        let long = words.par().then_filter(|w| std::future::ready(w.len() > 4));
        assert_eq!(long.collect::<Vec<&&str>>().await, [&"selvedge"]);
        words.par().for_each(|w| assert!(w.is_ascii())).await;
        words.par().for_each(async |w| assert!(w.is_ascii())).await;
        let long = |w: &str| if w.len() > 4 { Err(w.len()) } else { Ok(()) };
        assert_eq!(words.par().try_for_each(|w| long(w)).await, Err(8));
        assert_eq!(words.par().try_for_each(async |w| long(w)).await, Err(8));
        let first = words
            .par()
            .map(|w| if w.len() > 4 { Err(*w) } else { Ok(*w) });
        assert_eq!(
            first.try_collect::<_, _, Vec<&str>>().await,
            Err("selvedge")
        );
        let joined = words
            .par()
            .fold(String::new, |a, w| a + w)
            .reduce(String::new, |a, b| a + &b);
        assert_eq!(joined.await, "warpweftselvedge");
        let longest = words
            .par()
            .map(|w| *w)
            .reduce_with(|a, b| if a.len() < b.len() { b } else { a });
        assert_eq!(longest.await, Some("selvedge"));
        let sum = words
            .par()
            .try_fold(|| 0usize, |n, w| n.checked_add(w.len()).ok_or(*w));
        assert_eq!(sum.try_reduce(|| 0, |a, b| Ok(a + b)).await, Ok(16));
    }));
}

#[test]
fn pipelines_over_adapted_borrows_are_send_in_a_task() {
    let text = String::from("warp weft selvedge");
    let text = &text;
    block_on(send(async {
        let lengths = par_iter(text.split(' ').map(|w| w.len())).map(|n| n + 1);
        assert_eq!(lengths.collect::<Vec<_>>().await, [5, 5, 9]);
        let words = stream::iter(text.split(' ')).map(|w| (w, w.len())).par();
        assert_eq!(words.map(|(_, n)| n).sum::<usize>().await, 16);
        let mut owned: Vec<String> = text.split(' ').map(String::from).collect();
        owned.par_mut().for_each(|w| w.push('!')).await;
        assert_eq!(owned, ["warp!", "weft!", "selvedge!"]);
    }));
}

#[test]
fn pipelines_run_in_children_of_a_scope() {
    let words = vec!["warp".to_string(), "weft".to_string()];
    let words = &words;
    let total = block_on(send(scope(async |s| {
        let one = s.spawn(async move { words.par().map(|w| w.len()).sum::<usize>().await });
        let two = s.spawn(async move { words.par().then(async |w| w.len()).sum::<usize>().await });
        one.await + two.await
    })));
    assert_eq!(total, 16);
}
