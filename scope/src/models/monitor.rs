//! The monitor: nobody inside a closed window, and an owner that never sleeps while there is something for
//! it. The owner's steps are those of `Window::settle`, `wait` and `close`, the helper's those of `help`.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use super::{Seen, check_some};
use crate::sync::model::thread;
use crate::window::seam::{Next, Pushed, Shop};

fn open_shop(nodes: usize, lent: &[usize]) -> Arc<Shop> {
    let shop = Arc::new(Shop::new(nodes));
    assert!(shop.mail.open().is_empty());
    shop.lend(lent);
    shop
}

/// One helper job: enters if it may, works packets off, leaves. Gives back how many children it polled.
fn help(shop: &Shop, body: bool) -> Option<usize> {
    let (context, visit) = shop.monitor.enter(false)?;
    drop(context);
    let visit = Cell::new(visit);
    let mut polled = 0;
    let mut done = Vec::new();
    let mut body = body;
    loop {
        let (next, packet) = shop.exchange(&visit, &done, std::mem::take(&mut body));
        match next {
            Next::Packet { .. } => {
                shop.window.read();
                polled += packet.len();
                done = packet;
            }
            Next::Nothing | Next::Leave => break,
        }
    }
    shop.window.read();
    shop.monitor.leave(visit.get());
    Some(polled)
}

fn helper(shop: &Arc<Shop>, body: bool) -> thread::JoinHandle<Option<usize>> {
    let shop = Arc::clone(shop);
    thread::spawn(move || help(&shop, body))
}

/// What the owner has come by in a window.
#[derive(Default)]
struct Till {
    polled: usize,
    done: usize,
    body: bool,
    waited: bool,
}

/// As the owner does until nothing is left and nobody is inside: `settle` and `wait`.
fn settle(shop: &Shop) -> Till {
    let mut till = Till::default();
    loop {
        let got = shop.collect(1);
        till.polled += got.packet.len();
        till.done += got.done.len() + got.packet.len();
        till.body |= got.body;
        if !got.packet.is_empty() || got.body {
            continue;
        }
        let mail = shop.mail.take();
        till.done += mail.len();
        if !mail.is_empty() {
            continue;
        }
        if got.inside > 0 {
            if shop.mail.inbox.park() {
                till.waited = true;
                let stirred = || !shop.mail.inbox.is_parked();
                shop.monitor.wait(stirred, None);
                shop.mail.inbox.unpark();
            }
            continue;
        }
        if shop.monitor.close().is_some() {
            let rest = shop.collect(usize::MAX);
            till.polled += rest.packet.len();
            till.done += rest.done.len() + rest.packet.len();
            till.body |= rest.body;
            // Nobody else is inside: what children borrow may go.
            shop.window.write();
            return till;
        }
    }
}

#[test]
fn enter_against_close_is_inside_before_or_never() {
    static SEEN: Seen<3> = Seen::new();
    check_some(3, || {
        let shop = open_shop(1, &[0]);
        assert!(shop.monitor.ask(1));
        assert!(!shop.monitor.ask(1), "one is enough");
        let helper = helper(&shop, false);
        let till = settle(&shop);
        assert_eq!(till.done, 1, "the child came back once");
        assert!(!shop.monitor.ask(1), "nobody is asked into a closed window");
        let helped = helper.join().unwrap();
        assert_eq!(till.polled + helped.unwrap_or(0), 1);
        SEEN.note(helped.map_or(2, |polled| polled));
    });
    SEEN.assert_all();
}

#[test]
fn owner_that_waits_is_rung_by_the_last_helper() {
    static SEEN: Seen<4> = Seen::new();
    check_some(3, || {
        let shop = open_shop(2, &[0, 1]);
        assert!(shop.monitor.ask(2));
        assert!(shop.monitor.ask(2));
        let helpers = [helper(&shop, false), helper(&shop, false)];
        let till = settle(&shop);
        assert_eq!(till.done, 2);
        let helped = helpers.map(|helper| helper.join().unwrap());
        SEEN.note(helped.iter().flatten().count());
        SEEN.note(2 + usize::from(till.waited));
    });
    SEEN.assert_all();
}

#[test]
fn body_woken_on_a_helper_reaches_the_owner_in_this_window() {
    static SEEN: Seen<3> = Seen::new();
    check_some(3, || {
        let shop = open_shop(1, &[0]);
        assert!(shop.monitor.ask(1));
        let helper = helper(&shop, true);
        let till = settle(&shop);
        let helped = helper.join().unwrap();
        assert_eq!(
            till.body,
            helped.is_some(),
            "the body's wake is with the owner"
        );
        SEEN.note(usize::from(helped.is_some()));
        if till.waited {
            SEEN.note(2);
        }
    });
    SEEN.assert_all();
}

#[test]
fn push_reaches_an_owner_that_waits_for_a_helper() {
    static SEEN: Seen<3> = Seen::new();
    check_some(3, || {
        let shop = open_shop(2, &[0]);
        assert!(shop.monitor.ask(1));
        let helper = thread::spawn({
            let shop = Arc::clone(&shop);
            move || {
                let Some((_context, visit)) = shop.monitor.enter(false) else {
                    return false;
                };
                let visit = Cell::new(visit);
                let (_, packet) = shop.exchange(&visit, &[], false);
                // This poll ends only when the owner has polled the child that the push brings.
                let ours = shop.mail.inbox.is_parked();
                let _ = shop.exchange(&visit, &packet, false);
                shop.monitor.leave(visit.get());
                ours
            }
        });
        let pusher = thread::spawn({
            let shop = Arc::clone(&shop);
            move || {
                let pushed = shop.mail.push(1);
                if pushed == Pushed::Parked {
                    shop.monitor.ring();
                }
                pushed
            }
        });
        let mut done = settle(&shop).done;
        let parked = helper.join().unwrap();
        match pusher.join().unwrap() {
            Pushed::Parked => SEEN.note(0),
            Pushed::Quiet => SEEN.note(1),
            pushed => panic!("the window is open: {pushed:?}"),
        }
        if parked {
            SEEN.note(2);
        }
        done += shop.mail.take().len();
        assert_eq!(done, 2);
    });
    SEEN.assert_all();
}

/// A helper that stays inside until the owner has seen the push: only the ring can get it there.
#[test]
fn ring_alone_wakes_an_owner_whose_helper_is_busy() {
    static SEEN: Seen<2> = Seen::new();
    check_some(3, || {
        let shop = open_shop(1, &[]);
        assert!(shop.monitor.ask(1));
        let (_context, visit) = shop.monitor.enter(false).expect("it is open");
        let pusher = thread::spawn({
            let shop = Arc::clone(&shop);
            move || {
                let pushed = shop.mail.push(0);
                if pushed == Pushed::Parked {
                    shop.monitor.ring();
                }
                pushed == Pushed::Parked
            }
        });
        // The helper is this very thread, which is inside all the time.
        let mut got = shop.mail.take();
        while got.is_empty() {
            if shop.mail.inbox.park() {
                shop.monitor.wait(|| !shop.mail.inbox.is_parked(), None);
                shop.mail.inbox.unpark();
            }
            got = shop.mail.take();
        }
        assert_eq!(got, [0]);
        SEEN.note(usize::from(pusher.join().unwrap()));
        shop.monitor.leave(visit);
        assert!(shop.monitor.close().is_some());
    });
    SEEN.assert_all();
}

#[test]
fn drained_window_gets_everything_back() {
    static SEEN: Seen<3> = Seen::new();
    check_some(3, || {
        let shop = open_shop(2, &[0, 1]);
        assert!(shop.monitor.ask(1));
        let helper = helper(&shop, false);
        // As `Window::close`.
        shop.monitor.drain();
        assert!(!shop.monitor.ask(9), "nobody is asked while draining");
        let mut waited = false;
        while shop.monitor.close().is_none() {
            waited = true;
            shop.monitor.wait_empty(|| false, std::time::Duration::ZERO);
        }
        shop.window.write();
        let rest = shop.collect(usize::MAX);
        let helped = helper.join().unwrap();
        let polled = helped.unwrap_or(0);
        assert_eq!(rest.done.len(), polled);
        assert_eq!(rest.packet.len(), 2 - polled);
        SEEN.note(usize::from(helped.is_some()));
        if waited {
            SEEN.note(2);
        }
    });
    SEEN.assert_all();
}

/// As `Window::give_way` where somebody is in a long poll: others are admitted until he is back, and the owner.
#[test]
fn others_are_admitted_while_somebody_is_away_and_leave_when_nobody_is() {
    static SEEN: Seen<4> = Seen::new();
    check_some(3, || {
        let shop = open_shop(2, &[0, 1]);
        assert!(shop.monitor.ask(2));
        assert!(shop.monitor.ask(2));
        let helpers = [helper(&shop, false), helper(&shop, false)];
        shop.monitor.drain();
        let mut admitted = false;
        while !shop.monitor.is_empty() {
            admitted |= shop.monitor.admit(Instant::now());
            // One poll of its own, in which it is away, too.
            shop.monitor.owner_goes(Instant::now());
            shop.window.read();
            shop.monitor.owner_is_back();
            shop.monitor.wait_empty(|| false, std::time::Duration::ZERO);
        }
        shop.monitor.drain();
        assert!(!shop.monitor.admit(Instant::now()), "nobody is away");
        assert!(!shop.monitor.ask(9), "nobody is asked while draining");
        assert!(shop.monitor.close().is_some(), "nobody entered since");
        shop.window.write();
        let rest = shop.collect(usize::MAX);
        let helped = helpers.map(|helper| helper.join().unwrap());
        let polled: usize = helped.iter().flatten().sum();
        assert_eq!(rest.done.len(), polled);
        assert_eq!(rest.packet.len(), 2 - polled);
        SEEN.note(helped.iter().flatten().count());
        if admitted {
            SEEN.note(3);
        }
    });
    SEEN.assert_all();
}

#[test]
fn job_that_starts_in_a_later_window_helps_there() {
    static SEEN: Seen<2> = Seen::new();
    check_some(3, || {
        let shop = open_shop(1, &[]);
        assert!(shop.monitor.ask(1));
        let helper = helper(&shop, false);
        let first = settle(&shop);
        assert_eq!(first.done, 0);
        shop.lend(&[0]);
        let second = settle(&shop);
        assert_eq!(second.done, 1);
        let polled = helper.join().unwrap() == Some(1);
        assert_eq!(polled, second.polled == 0);
        SEEN.note(usize::from(polled));
    });
    SEEN.assert_all();
}
