//! What of a queue of ready children makes a packet for a thread, and what a queue is worth.

use super::costs::{expected, has_surprised};
use super::policy::{BIG, LOOK_FIRST};
use crate::task::List;

/// Work in a packet: long against a lock, short against the window.
const PACKET: u64 = 4_000;
/// Work in a packet where there is much of it.
const PACKET_LONG: u64 = 16_000;
/// A packet is longer than [`PACKET`] only if it is less than this part of what is ready, so that all end together.
const PACKET_PART: u64 = 64;
/// Children of which at most it is asked whether they may be polled now.
const FIT_LOOK: usize = 64;
/// Children of which at most the cost is added up, to tell what a queue of several kinds is worth.
const WORTH_LOOK: usize = 16;

/// What a poll of this kind is taken to cost, and no less than `least`; `None` if nothing is known.
fn cost(key: usize, least: u64) -> Option<u64> {
    let known = expected(key);
    (known != 0 || least != 0).then(|| known.max(least))
}

/// Moves a packet from a queue: children that cost about as much as a packet should, and one at least. One whose
/// kind is not known is a packet by itself, for it may be a big one; of a kind that is short and now and then very long, there are
/// a few.
pub(super) fn split_packet(queue: &List, most: usize, least: u64, packet: &List) {
    let (mut goal, mut sum) = (0, 0);
    let (mut kind, mut known) = (0, None);
    let mut most = most;
    let mut taken = 0;
    while taken < most {
        let Some(key) = queue.keys().next() else {
            return;
        };
        if key != kind {
            (kind, known) = (key, cost(key, least));
            if has_surprised(key) {
                most = most.min(LOOK_FIRST as usize);
            }
        }
        if taken == 0 {
            let ready = known.unwrap_or(0).saturating_mul(queue.len() as u64);
            goal = (ready / PACKET_PART).clamp(PACKET, PACKET_LONG);
        }
        sum += known.unwrap_or(goal);
        if taken > 0 && sum > goal {
            return;
        }
        queue.split_to(1, packet);
        taken += 1;
    }
}

/// Moves the first that fits to an empty packet. Whether there is another one, or one at all that is left. No more than the
/// first few are looked at.
pub(super) fn split_fitting(queue: &List, packet: &List, fits: impl Fn(usize) -> bool) -> bool {
    let passed = List::new();
    let mut more = false;
    for _ in 0..FIT_LOOK {
        let Some(key) = queue.keys().next() else {
            break;
        };
        if !fits(key) {
            queue.split_to(1, &passed);
        } else if packet.is_empty() {
            queue.split_to(1, packet);
        } else {
            more = true;
            break;
        }
    }
    queue.prepend(&passed);
    more
}

/// What the children of a queue cost together, judged by the first of them.
pub(super) fn worth(queue: &List, least: u64) -> u64 {
    let (mut sum, mut seen) = (0, 0);
    for key in queue.keys().take(WORTH_LOOK) {
        sum += cost(key, least).unwrap_or(0);
        seen += 1;
    }
    match seen {
        0 => 0,
        seen => (sum / seen).saturating_mul(queue.len() as u64),
    }
}

/// Whether there is somebody among the first of a queue whom a helper could do well to have: of a kind that is not
/// known, or heavy.
pub(super) fn may_be_long(queue: &List) -> bool {
    let mut keys = queue.keys().take(WORTH_LOOK);
    keys.any(|key| match expected(key) {
        0 => true,
        known => known >= BIG,
    })
}
