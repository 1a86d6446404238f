//! Probe.
mod common;
use std::sync::Mutex;
use common::{guarded_for, yields};
use selvedge_cancel::{FutureCancelExt, CancelToken, select_safe};
use selvedge_scope::{block_on, scope};
use std::time::Duration;
#[test]
fn token_of_a_child_cancelled_by_a_thread_wakes_it() {
    guarded_for(Duration::from_secs(5), || {
        let kept: Mutex<Option<CancelToken>> = Mutex::new(None);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                loop { if let Some(t) = kept.lock().unwrap().clone() { std::thread::sleep(Duration::from_millis(50)); t.cancel(); break; } }
            });
            let ended = block_on(scope(async |s| {
                s.spawn(async { *kept.lock().unwrap() = Some(selvedge_cancel::current()); std::future::pending::<()>().or_cancel().await }).await
            }));
            assert!(ended.is_err());
        });
    });
}
#[test]
fn token_of_a_child_cancelled_by_a_sibling_wakes_it() {
    guarded_for(Duration::from_secs(5), || {
        let kept: Mutex<Option<CancelToken>> = Mutex::new(None);
            let ended = block_on(scope(async |s| {
                let c = s.spawn(async { *kept.lock().unwrap() = Some(selvedge_cancel::current()); std::future::pending::<()>().or_cancel().await });
                yields(5).await;
                kept.lock().unwrap().as_ref().unwrap().cancel();
                c.await
            }));
            assert!(ended.is_err());
    });
}
#[test]
fn token_of_a_select_safe_child_cancelled_by_itself_drops_it() {
    guarded_for(Duration::from_secs(5), || {
            let ended = block_on(scope(async |s| {
                s.spawn_select_safe(select_safe(async { selvedge_cancel::current().cancel(); std::future::pending::<()>().await })).await
            }));
            assert!(ended.is_err());
    });
}
#[test]
fn own_arm_cancels_the_child_while_another_arm_rests() {
    guarded_for(Duration::from_secs(5), || {
            let ended = block_on(scope(async |s| {
                s.spawn(async {
                    let rest = std::future::pending::<()>().or_cancel();
                    let arm = async { yields(2).await; selvedge_cancel::current().cancel(); };
                    futures::join!(rest, arm).0
                }).await
            }));
            assert!(ended.is_err());
    });
}
#[test]
fn body_token_and_nested_member_tokens() {
    guarded_for(Duration::from_secs(5), || {
        // the body's shown token is the scope's; a timeout inside a child has its own
            let ended = block_on(scope(async |s| {
                let kept: std::sync::Arc<Mutex<Option<CancelToken>>> = Default::default();
                let k = kept.clone();
                let c = s.spawn(selvedge_scope::timeout(Duration::from_secs(3600), async move { *k.lock().unwrap() = Some(selvedge_cancel::current()); std::future::pending::<()>().or_cancel().await }));
                yields(5).await;
                kept.lock().unwrap().as_ref().unwrap().cancel();
                c.await
            }));
            assert!(ended.unwrap().is_err());
    });
}
