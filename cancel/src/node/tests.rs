//! What cannot be seen from outside: who is entered in whose list, and when places are used again.

use std::task::Waker;

use super::{Node, Watch};
use crate::slots::{INLINE, Watcher};
use crate::sync::Arc;
use crate::{Cause, CauseKind, Phase};

fn watch(node: &Arc<Node>, from: Phase) -> u32 {
    match node.watch(Watcher::Waker(from, Waker::noop().clone()), from) {
        Watch::At(at) => at,
        other => panic!("not watching: {other:?}"),
    }
}

fn is_watched(node: &Node) -> bool {
    node.lock().is_watched()
}

fn raise(node: &Arc<Node>, phase: Phase) {
    node.raise(phase, Cause::new(CauseKind::Requested));
}

#[test]
fn child_without_watchers_is_unknown_to_its_parent() {
    let root = Node::root();
    let child = Node::child_of(&root);
    assert!(!is_watched(&root));
    watch(&Node::child_of(&child), Phase::Cancelled);
    assert!(!is_watched(&child), "the grandchild is gone");
    assert!(is_watched(&root), "the child stays linked while it lives");
    drop(child);
    assert!(!is_watched(&root));
}

#[test]
fn ten_thousand_watched_children_use_one_place_after_another() {
    let root = Node::root();
    for _ in 0..10_000 {
        let child = Node::child_of(&root);
        watch(&child, Phase::Cancelled);
        assert!(is_watched(&root));
    }
    assert!(!is_watched(&root));
    let more = [(); 2].map(|()| watch(&root, Phase::Cancelled) >> 2);
    assert_eq!(more, [INLINE, 0], "the places are free again");
}

#[test]
fn node_that_is_never_cancelled_keeps_no_watchers() {
    let never = Node::never();
    let child = Node::child_of(&never);
    watch(&child, Phase::Cancelled);
    assert!(is_watched(&child));
    assert!(!is_watched(&never));
}

#[test]
fn watcher_of_a_later_phase_is_linked_again_after_each_earlier_one() {
    let root = Node::root();
    let child = Node::child_of(&root);
    let leaf = Node::child_of(&child);
    let early = watch(&leaf, Phase::Stopping);
    let late = watch(&leaf, Phase::Aborting);
    for phase in [Phase::Stopping, Phase::Cancelled] {
        raise(&root, phase);
        assert!(leaf.unwatch(early).is_none());
        assert!([&root, &child, &leaf].map(|node| is_watched(node)) == [true; 3]);
    }
    raise(&root, Phase::Aborting);
    assert!(leaf.unwatch(late).is_none());
    assert!([&root, &child, &leaf].map(|node| is_watched(node)) == [false; 3]);
}

#[test]
fn cancelled_children_that_wait_for_nothing_more_leave_the_list() {
    let root = Node::root();
    let children: Vec<_> = (0..10).map(|_| Node::child_of(&root)).collect();
    for child in &children {
        watch(child, Phase::Cancelled);
    }
    raise(&root, Phase::Stopping);
    assert!(is_watched(&root));
    raise(&root, Phase::Cancelled);
    assert!(!is_watched(&root));
    let late = watch(&children[3], Phase::Aborting);
    assert!(is_watched(&root));
    drop(children[3].unwatch(late));
    drop(children);
    assert!(!is_watched(&root));
}
