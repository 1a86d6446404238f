//! The phases of a token: in which order they come, who inherits them, who is told of which, whose
//! cause stays; and tokens that follow others.
#![cfg(not(selvedge_loom))]

use std::sync::{Arc, Barrier, Mutex};
use std::task::Waker;
use std::thread;

use selvedge_cancel::{
    CancelToken, Cause, CauseKind, Phase, SelectSafe, TaskId, Watching, stopping,
};

mod support;
use support::{Count, poll};

const LATER: [Phase; 3] = [Phase::Stopping, Phase::Cancelled, Phase::Aborting];

fn text(token: &CancelToken) -> Option<String> {
    token.cause()?.text().map(str::to_owned)
}

fn ask(token: &CancelToken, phase: Phase) {
    match phase {
        Phase::Stopping => token.stop(),
        Phase::Cancelled => token.cancel(),
        Phase::Aborting => token.abort(),
        _ => {}
    }
}

fn watch(token: &CancelToken, from: Phase) -> (Arc<Count>, Watching) {
    let count = Count::new();
    let watching = token.watch_phase(&Waker::from(Arc::clone(&count)), from);
    (count, watching)
}

#[test]
fn phases_are_inherited_at_once_and_by_those_born_later() {
    let root = CancelToken::new();
    let leaf = root.child().child();
    let beside = CancelToken::new();
    for phase in LATER {
        ask(&root, phase);
        let born = leaf.child();
        assert_eq!([&root, &leaf, &born].map(CancelToken::phase), [phase; 3]);
        assert!(leaf.is_stopping());
        assert_eq!(leaf.is_cancelled(), phase >= Phase::Cancelled);
    }
    assert_eq!(beside.phase(), Phase::Running);
}

#[test]
fn phase_is_the_furthest_of_a_token_and_those_above_and_never_goes_back() {
    for own in LATER {
        for above in LATER {
            let root = CancelToken::new();
            let leaf = root.child();
            ask(&leaf, own);
            assert_eq!((leaf.phase(), root.phase()), (own, Phase::Running));
            ask(&root, above);
            assert_eq!(leaf.phase(), own.max(above));
            ask(&leaf, Phase::Stopping);
            assert_eq!(leaf.phase(), own.max(above));
        }
    }
}

#[test]
fn stop_leaves_a_token_running_but_for_those_who_wait_for_it() {
    fn is_select_safe(_: &impl SelectSafe) {}

    let root = CancelToken::new();
    let leaf = root.child();
    let (told, still) = (Count::new(), Count::new());
    let (mut stop, mut cancel) = (leaf.stopping(), leaf.cancelled());
    is_select_safe(&stop);
    assert!(poll(&mut stop, &told).is_pending() && poll(&mut cancel, &still).is_pending());
    root.stop_with("enough");
    assert_eq!((told.get(), still.get()), (1, 0));
    for _ in 0..2 {
        assert!(poll(&mut stop, &told).is_ready(), "level-triggered");
        assert!(poll(&mut cancel, &still).is_pending());
    }
    assert!(leaf.cause().is_none());
    assert_eq!(leaf.stop_cause().unwrap().text(), Some("enough"));
    leaf.cancel_with("more");
    assert_eq!(still.get(), 1);
    assert_eq!(text(&leaf).as_deref(), Some("more"));
}

#[test]
fn cancel_and_abort_are_stops_too() {
    for phase in [Phase::Cancelled, Phase::Aborting] {
        let root = CancelToken::new();
        let leaf = root.child();
        let count = Count::new();
        let mut wait = leaf.stopping();
        assert!(poll(&mut wait, &count).is_pending());
        ask(&root, phase);
        assert_eq!(count.get(), 1);
        assert!(poll(&mut wait, &count).is_ready());
        assert!(poll(&mut leaf.child().stopping(), &count).is_ready());
    }
}

#[test]
fn each_watcher_is_told_once_at_its_own_phase() {
    let root = CancelToken::new();
    let leaf = root.child().child();
    let counts = LATER.map(|phase| watch(&leaf, phase).0);
    let told = |counts: &[Arc<Count>; 3]| counts.each_ref().map(|count| count.get());
    root.stop();
    assert_eq!(told(&counts), [1, 0, 0]);
    root.cancel();
    assert_eq!(told(&counts), [1, 1, 0]);
    leaf.cancel();
    leaf.stop();
    assert_eq!(told(&counts), [1, 1, 0]);
    root.abort();
    assert_eq!(told(&counts), [1, 1, 1]);
    assert_eq!(counts.map(|count| Arc::strong_count(&count)), [1; 3]);
}

#[test]
fn watcher_of_a_phase_that_has_come_is_late_and_one_taken_back_is_forgotten() {
    let token = CancelToken::new();
    let (count, watching) = watch(&token, Phase::Aborting);
    let Watching::At(at) = watching else {
        panic!("{watching:?}");
    };
    token.cancel();
    assert_eq!(watch(&token, Phase::Running).1, Watching::Late);
    assert_eq!(watch(&token, Phase::Stopping).1, Watching::Late);
    assert_eq!(watch(&token, Phase::Cancelled).1, Watching::Late);
    token.unwatch_phase(at);
    assert_eq!(Arc::strong_count(&count), 1);
    token.abort();
    token.unwatch_phase(at);
    assert_eq!(count.get(), 0);
    assert_eq!(watch(&token, Phase::Aborting).1, Watching::Late);
}

#[test]
fn position_that_a_strike_has_voided_is_not_its_next_holders() {
    let token = CancelToken::new();
    let (_, first) = watch(&token, Phase::Stopping);
    let (second, _) = watch(&token, Phase::Cancelled);
    token.stop();
    let (third, _) = watch(&token, Phase::Cancelled);
    let Watching::At(at) = first else {
        panic!("{first:?}");
    };
    token.unwatch_phase(at);
    token.cancel();
    assert_eq!((second.get(), third.get()), (1, 1));
}

#[test]
fn abort_cancels_and_keeps_an_earlier_cause() {
    let fresh = CancelToken::new();
    fresh.abort();
    assert_eq!(fresh.cause().unwrap().kind(), CauseKind::GraceExpired);
    let ending = CancelToken::new();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let _guard = ending.on_cancel({
        let heard = Arc::clone(&heard);
        move |cause| heard.lock().unwrap().push(cause.kind())
    });
    ending.cancel_with(CauseKind::Shutdown);
    ending.abort_with("third signal");
    assert_eq!(ending.cause().unwrap().kind(), CauseKind::Shutdown);
    assert_eq!(*heard.lock().unwrap(), [CauseKind::Shutdown]);
}

#[test]
fn first_cause_stays_with_kind_text_place_and_task() {
    let root = CancelToken::new();
    let child = root.child();
    let task = TaskId::next();
    let first = Cause::new(CauseKind::SiblingFailed).with_task(task);
    root.cancel_with(first.with_text("first"));
    let line = line!() - 1;
    for token in [&child, &root] {
        token.cancel_with(Cause::from("second").with_task(TaskId::next()));
        token.abort_with("third");
        let cause = token.cause().unwrap();
        assert_eq!(cause.kind(), CauseKind::SiblingFailed);
        assert_eq!((cause.text(), cause.task()), (Some("first"), Some(task)));
        assert_eq!(cause.place().unwrap().line(), line);
    }
    assert!(root.own_cause().is_some() && child.own_cause().is_none());
    assert!(
        root.cause()
            .unwrap()
            .to_string()
            .contains(&format!("by task {task} at "))
    );
}

#[test]
fn outside_every_scope_no_phase_comes() {
    let count = Count::new();
    assert!(poll(&mut stopping(), &count).is_pending());
    let outside = selvedge_cancel::current();
    for phase in LATER {
        ask(&outside, phase);
    }
    outside.set_deadline(Some(selvedge_cancel::Instant::now()));
    assert_eq!(
        (outside.phase(), outside.deadline()),
        (Phase::Running, None)
    );
    assert_eq!(watch(&outside, Phase::Stopping).1, Watching::Never);
    let leader = CancelToken::new();
    drop((outside.follow(&leader), leader.follow(&outside)));
}

#[test]
fn explicit_cancel_raced_with_a_deadline_leaves_exactly_one_cause() {
    // 100,000 rounds on two threads that meet at a barrier before each thousand.
    const ROUNDS: usize = 1000;
    let mut explicit = 0;
    for _ in 0..100 {
        let scopes: Vec<_> = (0..ROUNDS).map(|_| CancelToken::new()).collect();
        let limits: Vec<_> = scopes.iter().map(CancelToken::child).collect();
        let leaves: Vec<_> = limits.iter().map(CancelToken::child).collect();
        let barrier = Barrier::new(2);
        thread::scope(|threads| {
            threads.spawn(|| {
                barrier.wait();
                limits
                    .iter()
                    .for_each(|limit| limit.cancel_with(CauseKind::Deadline));
            });
            barrier.wait();
            for (scope, leaf) in scopes.iter().zip(&leaves) {
                let early = leaf.cause();
                scope.cancel();
                let kind = leaf.cause().expect("it is cancelled").kind();
                assert!(early.is_none_or(|early| early.kind() == kind));
                explicit += usize::from(kind == CauseKind::Requested);
            }
        });
        for (limit, leaf) in limits.iter().zip(&leaves) {
            // Whoever asked first, the limit has it from itself or from above, and never both.
            let kind = limit.cause().unwrap().kind();
            assert_eq!(limit.own_cause().is_some(), kind == CauseKind::Deadline);
            assert!(leaf.cause().is_some());
        }
    }
    assert!(explicit > 0, "the deadline was always first");
}

#[test]
fn explicit_cancel_raced_with_another_on_one_token_is_told_with_the_cause_that_stays() {
    for _ in 0..20 {
        let tokens: Vec<_> = (0..1000).map(|_| CancelToken::new()).collect();
        let barrier = Barrier::new(2);
        let cancel = |kind: CauseKind| {
            barrier.wait();
            let seen = tokens.iter().map(|token| {
                token.cancel_with(kind);
                token.cause().unwrap().kind()
            });
            seen.collect::<Vec<_>>()
        };
        let (ours, theirs) = thread::scope(|threads| {
            let theirs = threads.spawn(|| cancel(CauseKind::Deadline));
            (cancel(CauseKind::Requested), theirs.join().unwrap())
        });
        assert_eq!(ours, theirs);
    }
}

#[test]
fn fan_of_a_million_watched_children_goes_through_all_phases_on_a_small_stack() {
    thread::Builder::new()
        .stack_size(64 * 1024)
        .spawn(|| {
            let root = CancelToken::new();
            let count = Count::new();
            let waker = Waker::from(Arc::clone(&count));
            let children: Vec<_> = (0..1_000_000).map(|_| root.child()).collect();
            for (at, child) in children.iter().enumerate() {
                child.watch_phase(&waker, LATER[at % 3]);
            }
            let mut told = 0;
            for (phase, share) in LATER.into_iter().zip([333_334, 333_333, 333_333]) {
                ask(&root, phase);
                told += share;
                assert_eq!(count.get(), told);
            }
            assert!(
                children
                    .iter()
                    .all(|child| child.phase() == Phase::Aborting)
            );
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn chain_of_a_million_with_a_watcher_of_the_abort_at_its_end_goes_through_all_phases() {
    thread::Builder::new()
        .stack_size(64 * 1024)
        .spawn(|| {
            let root = CancelToken::new();
            let leaf = (0..1_000_000).fold(root.clone(), |token, _| token.child());
            let (count, _) = watch(&leaf, Phase::Aborting);
            root.stop();
            root.cancel();
            assert_eq!(count.get(), 0);
            root.abort();
            assert_eq!(count.get(), 1);
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn follower_goes_where_its_leader_goes_and_not_the_other_way() {
    let (top, leader, follower) = (CancelToken::new(), CancelToken::new(), CancelToken::new());
    leader.attach_to(&top);
    let below = follower.child();
    let counts = LATER.map(|phase| watch(&below, phase).0);
    let guard = follower.follow(&leader);
    for (step, phase) in LATER.into_iter().enumerate() {
        ask(&top, phase);
        assert_eq!(below.phase(), phase);
        let told = counts.iter().map(|count| count.get()).sum::<usize>();
        assert_eq!(told, step + 1);
    }
    assert_eq!(follower.own_cause().unwrap().kind(), CauseKind::Requested);
    let (quiet, ahead) = (CancelToken::new(), CancelToken::new());
    let back = ahead.follow(&quiet);
    ahead.cancel();
    assert_eq!(quiet.phase(), Phase::Running);
    drop((guard, back));
}

#[test]
fn follower_catches_up_at_once_and_stands_still_after_the_guard() {
    for phase in LATER {
        let (leader, follower) = (CancelToken::new(), CancelToken::new());
        leader.stop();
        let guard = follower.follow(&leader);
        assert_eq!(follower.phase(), Phase::Stopping);
        drop(guard);
        ask(&leader, phase);
        assert_eq!(follower.phase(), Phase::Stopping);
        drop(follower.follow(&leader));
        assert_eq!(follower.phase(), phase);
    }
}

#[test]
fn follower_knows_why_its_leader_is_to_stop() {
    let text = |token: &CancelToken| {
        let why = |cause: Option<Cause>| cause.and_then(|cause| cause.text().map(str::to_owned));
        (why(token.stop_cause()), why(token.cause()))
    };
    let known = |stop: &str, cause: Option<&str>| (Some(stop.to_owned()), cause.map(str::to_owned));
    // Asked of the leader itself, or of what is above it.
    for above in [false, true] {
        let top = CancelToken::new();
        let leader = if above { top.child() } else { top.clone() };
        let followers = [(); 3].map(|()| CancelToken::new());
        let early = followers[0].follow(&leader);
        top.stop_with("enough");
        let late = followers[1].follow(&leader);
        for follower in &followers[..2] {
            assert_eq!(text(follower), known("enough", None));
        }
        top.cancel_with("now");
        let last = followers[2].follow(&leader);
        for follower in &followers {
            assert_eq!(text(&follower.child()), known("enough", Some("now")));
        }
        drop((early, late, last));
    }
}

#[test]
fn follower_of_a_token_that_was_aborted_below_the_stop_knows_of_both() {
    for phase in [Phase::Cancelled, Phase::Aborting] {
        let program = CancelToken::new();
        let (part, late) = (program.child(), CancelToken::new());
        program.stop_with("why");
        ask(&part, phase);
        let _following = late.follow(&part);
        assert_eq!(late.phase(), phase);
        assert_eq!(late.stop_cause().unwrap().text(), Some("why"));
    }
}

#[test]
fn circle_of_followers_ends_together_and_keeps_nobody_alive() {
    let tokens: Vec<_> = (0..3).map(|_| CancelToken::new()).collect();
    let guards: Vec<_> = (0..3)
        .map(|at| tokens[at].follow(&tokens[(at + 1) % 3]))
        .collect();
    let own = tokens[0].follow(&tokens[0]);
    let (count, _) = watch(&tokens[1], Phase::Cancelled);
    tokens[2].cancel_with("round");
    assert!(
        tokens
            .iter()
            .all(|token| text(token).as_deref() == Some("round"))
    );
    assert_eq!(count.get(), 1);
    drop((guards, own));
}

#[test]
fn dropped_follower_is_no_burden_to_its_leader() {
    let leader = CancelToken::new();
    let follower = CancelToken::new();
    let (count, _) = watch(&follower, Phase::Cancelled);
    let guard = follower.follow(&leader);
    drop(follower);
    assert_eq!(Arc::strong_count(&count), 1, "the follower is gone");
    leader.cancel();
    assert_eq!(count.get(), 0);
    drop(guard);
}

#[test]
fn waker_that_cancels_its_own_token_is_heard_by_those_who_wait_for_that() {
    struct Canceller(CancelToken, Arc<Count>);
    impl std::task::Wake for Canceller {
        fn wake(self: Arc<Self>) {
            self.0.cancel();
            self.1.add();
        }
    }
    let token = CancelToken::new();
    let count = Count::new();
    let canceller = Canceller(token.clone(), Arc::clone(&count));
    token.watch_phase(&Waker::from(Arc::new(canceller)), Phase::Stopping);
    let (cancelled, _) = watch(&token, Phase::Cancelled);
    token.stop();
    assert_eq!((count.get(), cancelled.get()), (1, 1));
}

#[test]
fn token_that_was_told_by_its_only_waker_has_the_cause_from_above() {
    let root = CancelToken::new();
    let middle = root.child();
    let (count, _) = watch(&middle, Phase::Cancelled);
    root.cancel_with("root");
    assert_eq!(count.get(), 1);
    // Nobody has asked for the cause yet: neither a callback below nor a later request changes it.
    let heard = Arc::new(Mutex::new(None));
    let _guard = middle.child().on_cancel({
        let heard = Arc::clone(&heard);
        move |cause| *heard.lock().unwrap() = cause.text().map(str::to_owned)
    });
    assert_eq!(heard.lock().unwrap().as_deref(), Some("root"));
    middle.abort_with("middle");
    assert_eq!(text(&middle).as_deref(), Some("root"));
    assert_eq!(text(&middle.child()).as_deref(), Some("root"));
    assert!(middle.own_cause().is_none());
}
