//! The inbox: pushes against everything that owner and helpers do to the same word. Each node comes out
//! once, in order with what its pusher did, and somebody who waits is told.

use std::sync::Arc;

use super::{Seen, check_all, check_some};
use crate::sync::model::thread;
use crate::window::seam::{Mail, Pushed};

fn opened(nodes: usize) -> Arc<Mail> {
    let mail = Arc::new(Mail::new(nodes));
    assert!(mail.open().is_empty());
    mail
}

fn pusher(mail: &Arc<Mail>, node: usize) -> thread::JoinHandle<Pushed> {
    let mail = Arc::clone(mail);
    thread::spawn(move || mail.push(node))
}

#[test]
fn push_against_close_is_taken_or_told() {
    static SEEN: Seen<2> = Seen::new();
    check_all(|| {
        let mail = opened(1);
        let push = pusher(&mail, 0);
        let mut got = mail.take();
        while !mail.inbox.close() {
            got.extend(mail.take());
        }
        let pushed = push.join().unwrap();
        if got.is_empty() {
            assert_eq!(pushed, Pushed::Closed, "nobody polls the scope again");
            got = mail.open();
        } else {
            assert_eq!(pushed, Pushed::Quiet);
        }
        assert_eq!(got, [0]);
        SEEN.note(usize::from(pushed == Pushed::Closed));
    });
    SEEN.assert_all();
}

#[test]
fn two_pushes_against_close_tell_the_parent_once() {
    static SEEN: Seen<3> = Seen::new();
    check_all(|| {
        let mail = opened(2);
        let pushes = [pusher(&mail, 0), pusher(&mail, 1)];
        let mut got = mail.take();
        while !mail.inbox.close() {
            got.extend(mail.take());
        }
        let late = 2 - got.len();
        let told = pushes
            .into_iter()
            .map(|push| push.join().unwrap())
            .filter(|pushed| *pushed == Pushed::Closed)
            .count();
        assert_eq!(
            told,
            late.min(1),
            "the first of the late ones tells the parent"
        );
        got.extend(mail.open());
        got.sort_unstable();
        assert_eq!(got, [0, 1]);
        SEEN.note(late);
    });
    SEEN.assert_all();
}

#[test]
fn push_against_open_is_found_in_this_window() {
    static SEEN: Seen<2> = Seen::new();
    check_all(|| {
        let mail = Arc::new(Mail::new(1));
        let push = pusher(&mail, 0);
        let mut got = mail.open();
        let early = !got.is_empty();
        let pushed = push.join().unwrap();
        assert_eq!(pushed == Pushed::Closed, early);
        got.extend(mail.take());
        assert_eq!(got, [0]);
        SEEN.note(usize::from(early));
    });
    SEEN.assert_all();
}

#[test]
fn spawn_against_the_end_is_accepted_or_refused() {
    static SEEN: Seen<2> = Seen::new();
    check_all(|| {
        let mail = opened(1);
        let spawn = pusher(&mail, 0);
        let mut got = mail.take();
        while !mail.inbox.end() {
            got.extend(mail.take());
        }
        let pushed = spawn.join().unwrap();
        assert_eq!(pushed == Pushed::Dead, got.is_empty());
        assert!(mail.inbox.is_dead());
        assert!(mail.die().is_empty(), "something came after the end");
        SEEN.note(usize::from(pushed == Pushed::Dead));
    });
    SEEN.assert_all();
}

#[test]
fn spawns_against_the_drop_are_accepted_or_refused() {
    static SEEN: Seen<3> = Seen::new();
    check_all(|| {
        let mail = Arc::new(Mail::new(2));
        let spawns = [pusher(&mail, 0), pusher(&mail, 1)];
        let got = mail.die();
        let pushed = spawns.map(|spawn| spawn.join().unwrap());
        for (node, pushed) in pushed.into_iter().enumerate() {
            assert_eq!(pushed == Pushed::Dead, !got.contains(&node));
        }
        assert!(mail.die().is_empty(), "something came after the end");
        SEEN.note(got.len());
    });
    SEEN.assert_all();
}

#[test]
fn helper_and_owner_take_each_node_once() {
    static SEEN: Seen<3> = Seen::new();
    check_some(2, || {
        let mail = opened(2);
        let pushes = [pusher(&mail, 0), pusher(&mail, 1)];
        let helper = thread::spawn({
            let mail = Arc::clone(&mail);
            move || mail.take()
        });
        let mut got = mail.take();
        for push in pushes {
            assert_eq!(push.join().unwrap(), Pushed::Quiet);
        }
        let theirs = helper.join().unwrap();
        SEEN.note(theirs.len());
        got.extend(theirs);
        got.extend(mail.take());
        got.sort_unstable();
        assert_eq!(got, [0, 1]);
        assert!(mail.inbox.close(), "the inbox is open and empty");
    });
    SEEN.assert_all();
}

/// The owner parks: whoever pushes into the parked inbox is told so, and a helper that takes the push away
/// again does not undo it.
#[test]
fn push_against_park_and_a_helper_is_told_or_seen() {
    static SEEN: Seen<3> = Seen::new();
    check_all(|| {
        let mail = opened(1);
        let push = pusher(&mail, 0);
        let helper = thread::spawn({
            let mail = Arc::clone(&mail);
            move || mail.take()
        });
        let mut got = Vec::new();
        let parks = mail.inbox.park();
        if parks {
            let stirred = !mail.inbox.is_parked();
            mail.inbox.unpark();
            assert!(!mail.inbox.is_parked());
            SEEN.note(usize::from(stirred));
        } else {
            SEEN.note(2);
        }
        let pushed = push.join().unwrap();
        assert!(
            parks || pushed == Pushed::Quiet,
            "told an owner who is at work"
        );
        got.extend(helper.join().unwrap());
        got.extend(mail.take());
        assert_eq!(got, [0]);
        assert!(mail.inbox.close(), "the inbox is open and empty");
    });
    SEEN.assert_all();
}

/// The same node comes again while a helper still looks at its first coming.
#[test]
fn node_pushed_again_under_a_taker_comes_out_once_each_time() {
    static SEEN: Seen<2> = Seen::new();
    check_some(2, || {
        let mail = opened(2);
        assert_eq!(mail.push(0), Pushed::Quiet);
        let helper = thread::spawn({
            let mail = Arc::clone(&mail);
            move || mail.take()
        });
        let other = pusher(&mail, 1);
        let mut got = mail.take();
        let again = got.contains(&0);
        if again {
            assert_eq!(mail.push(0), Pushed::Quiet);
        }
        assert_eq!(other.join().unwrap(), Pushed::Quiet);
        got.extend(helper.join().unwrap());
        got.extend(mail.take());
        got.sort_unstable();
        let all: &[usize] = if again { &[0, 0, 1] } else { &[0, 1] };
        assert_eq!(got, all);
        SEEN.note(usize::from(again));
    });
    SEEN.assert_all();
}
