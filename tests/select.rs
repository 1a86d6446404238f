//! `select!` in scopes: in children on whichever thread, over handles, sleeps and cancellations, and through the
//! façade alone. Not about its arms: those have their tests beside the macro.

use std::future::pending;
use std::time::Duration;

use futures::channel::oneshot;
use selvedge::{block_on, cancel, scope, select, select_safe, time};

/// Ends after so many turns of others.
async fn turns(count: u32) -> u32 {
    for _ in 0..count {
        cancel::checkpoint()
            .await
            .expect("nothing is cancelled here");
    }
    count
}

#[test]
fn handles_are_selected_by_reference_until_each_has_been_first() {
    let (tell, told) = oneshot::channel();
    let seen = block_on(scope(async |s| {
        let (mut a, mut b) = (s.spawn(turns(3)), s.spawn(async { told.await.unwrap() }));
        let (mut seen, mut ticks, mut tell) = (Vec::new(), 0, Some(tell));
        let (mut has_a, mut has_b) = (true, true);
        while has_a || has_b {
            selvedge::select! {
                x = &mut a, if has_a => { has_a = false; seen.push(x) }
                x = &mut b, if has_b => { has_b = false; seen.push(x) }
                _ = cancel::checkpoint() => {
                    ticks += 1;
                    if ticks == 9 {
                        tell.take().unwrap().send(50).unwrap();
                    }
                }
            }
        }
        assert!(ticks >= 9, "they were kept for several rounds: {ticks}");
        seen
    }));
    assert!(seen == [3, 50] || seen == [50, 3], "{seen:?}");
}

#[test]
fn children_select_too_and_cancellation_is_an_arm_like_others() {
    let (mut sum, mut ends) = (0, 0);
    block_on(scope(async |s| {
        let waiting: Vec<_> = (0..8)
            .map(|_| {
                s.spawn(async {
                    select! {
                        biased;
                        _ = cancel::cancelled() => 1,
                        // Asked after the first arm, it may be told of a cancellation in between.
                        Ok(()) = time::sleep(Duration::from_secs(3600)) => 100,
                        x = select_safe(pending()) => x,
                    }
                })
            })
            .collect();
        sum = s.spawn(turns(5)).await;
        s.cancel();
        for handle in waiting {
            ends += handle.await;
        }
    }));
    assert_eq!((sum, ends), (5, 8));
}

#[test]
fn scope_that_its_owner_vouches_for_is_an_arm_and_drops_its_children_when_it_loses() {
    struct Told<'a>(&'a mut bool);
    impl Drop for Told<'_> {
        fn drop(&mut self) {
            *self.0 = true;
        }
    }
    let mut is_dropped = false;
    let told = Told(&mut is_dropped);
    block_on(async {
        select! {
            biased;
            () = select_safe(scope(async |s| {
                let child = s.spawn(async move {
                    let _told = told;
                    pending().await
                });
                child.await
            })) => unreachable!("it waits for ever"),
            count = select_safe(turns(3)) => assert_eq!(count, 3),
        }
    });
    assert!(is_dropped);
}

#[test]
fn select_over_a_tuple_takes_handles_and_sleeps() {
    let first = block_on(scope(async |s| {
        let mut child = s.spawn(async { Ok(turns(3).await) });
        let late = select_safe(async {
            time::sleep(Duration::from_secs(3600)).await?;
            Ok::<_, selvedge::Cancelled>(0)
        });
        selvedge::select((&mut child, late)).await
    }));
    assert_eq!(first.unwrap(), 3);
}
